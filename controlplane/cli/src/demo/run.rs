//! The conductor: from the first process to the last word.
//!
//! Before: flags. After: an exit code, and nothing is left that was started here.

use super::acts::{Pace, Show};
use super::load::Load;
use super::narration::Narration;
use super::problem::DemoError;
use super::scene::Scene;
use super::stage::Stage;
use super::summary::{Summary, invitation};
use crate::arguments::Demo;
use crate::problem::Problem;

/// Runs the demo.
///
/// # Errors
/// It could not go on, or not all was well.
pub(crate) fn run(demo: &Demo) -> Result<(), Problem> {
    match show(demo) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Problem::told()),
        Err(error) => Err(Problem::new(error)),
    }
}

/// Returns whether all was well.
fn show(demo: &Demo) -> Result<bool, DemoError> {
    let mut stage = Stage::new(Narration::new())?;
    let mut scene = Scene::new()?;
    if demo.keep {
        scene.keep_folder();
    }
    let shown = play(demo, &mut stage, &mut scene);
    stage.clear();
    if let Err(DemoError::NotInTime { .. }) = shown {
        // It names the logs.
        scene.keep_folder();
    }
    shown
}

fn play(demo: &Demo, stage: &mut Stage, scene: &mut Scene) -> Result<bool, DemoError> {
    stage.begin_act("The scene is set")?;
    scene.set(stage)?;
    stage.say(format!(
        "{} processes of this program: a control plane, {} proxies, {} apps.\n\
         The config is in {}.\nClients come in by http://{}/.",
        scene.process_count(),
        scene.plan.proxies().count(),
        scene.plan.replicas.len(),
        scene.config().display(),
        scene.edge()
    ))?;
    stage.show(scene.figures());
    let load = Load::start(scene.edge())?;
    let pace = if demo.quick { Pace::QUICK } else { Pace::FULL };
    let verdicts = Show { stage, scene, load: &load, pace, first_revision: 0 }.play()?;
    let mut summary = Summary::new(verdicts, load.finish());
    stage.clear();
    stage.say(summary.text())?;
    if demo.keep {
        stage.say(invitation(scene))?;
        stage.stay(scene)?;
        stage.say(format!("The config and the logs stay in {}.", scene.folder().display()))?;
    }
    Ok(summary.is_well())
}
