//! What passes while the demo waits: signals are heeded, processes looked after, figures shown.
//!
//! Everything that waits does it here, so that ctrl-C and a process that ends are noticed at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::figures::Figures;
use super::narration::Narration;
use super::problem::DemoError;
use super::scene::Scene;

/// Between two looks at what is waited for.
const PERIOD: Duration = Duration::from_millis(25);
/// Between two looks at the proxies' metrics.
const FIGURES_PERIOD: Duration = Duration::from_millis(500);
/// What should come at once may take so long; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the show takes place.
#[derive(Debug)]
pub(super) struct Stage {
    narration: Narration,
    figures: Option<Figures>,
    figures_at: Instant,
    is_interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Takes over ctrl-C and the like. A second one ends the demo at once; its processes end by
    /// themselves then.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(narration: Narration) -> Result<Self, DemoError> {
        let is_interrupted = Arc::new(AtomicBool::new(false));
        let register = |signal| -> io::Result<()> {
            // In this order: the first one finds the flag unset.
            flag::register_conditional_shutdown(signal, 128 + signal, is_interrupted.clone())?;
            flag::register(signal, is_interrupted.clone()).map(drop)
        };
        let registered = [SIGINT, SIGTERM, SIGHUP].into_iter().try_for_each(register);
        registered.map_err(DemoError::system("catching signals"))?;
        Ok(Self { narration, figures: None, figures_at: Instant::now(), is_interrupted })
    }

    /// Says something.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(super) fn say(&self, text: impl AsRef<str>) -> Result<(), DemoError> {
        self.narration.say(text.as_ref()).map_err(DemoError::Output)
    }

    /// Says what comes next.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(super) fn begin_act(&mut self, title: &str) -> Result<(), DemoError> {
        self.narration.begin_act(title).map_err(DemoError::Output)?;
        // Where only whole acts are reported, the figures begin with the act.
        if !self.narration.is_live() {
            self.figures.iter_mut().for_each(|figures| drop(figures.look()));
        }
        Ok(())
    }

    /// Reports the act's figures, where they were not seen all the time.
    ///
    /// # Errors
    /// Nobody reads it.
    pub(super) fn end_act(&mut self) -> Result<(), DemoError> {
        match &mut self.figures {
            Some(figures) if !self.narration.is_live() => {
                self.narration.report(&figures.look()).map_err(DemoError::Output)
            }
            _ => Ok(()),
        }
    }

    /// From now on there are figures.
    pub(super) fn show(&mut self, figures: Figures) {
        self.figures = Some(figures);
    }

    /// Takes what moves off the screen.
    pub(super) fn clear(&mut self) {
        self.figures = None;
        self.narration.clear();
    }

    /// Looks until `look` returns something.
    ///
    /// # Errors
    /// It does not in time, or what [`Stage::pass`] says.
    pub(super) fn wait<T>(
        &mut self,
        scene: &mut Scene,
        what: &'static str,
        mut look: impl FnMut(&Scene) -> Option<T>,
    ) -> Result<T, DemoError> {
        let began = Instant::now();
        loop {
            self.pass(scene)?;
            if let Some(found) = look(scene) {
                return Ok(found);
            }
            if began.elapsed() > PATIENCE {
                let (detail, logs) = (String::new(), scene.logs());
                return Err(DemoError::NotInTime { what, detail, limit: PATIENCE, logs });
            }
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// What [`Stage::pass`] says.
    pub(super) fn watch(&mut self, scene: &mut Scene, time: Duration) -> Result<(), DemoError> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.pass(scene)?;
        }
        Ok(())
    }

    /// Until ctrl-C.
    ///
    /// # Errors
    /// A process ended.
    pub(super) fn stay(&mut self, scene: &mut Scene) -> Result<(), DemoError> {
        loop {
            match self.pass(scene) {
                Ok(()) => {}
                Err(DemoError::Interrupted) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// A moment.
    ///
    /// # Errors
    /// [`DemoError::Interrupted`] or [`DemoError::Ended`].
    fn pass(&mut self, scene: &mut Scene) -> Result<(), DemoError> {
        thread::sleep(PERIOD);
        if self.is_interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        scene.check()?;
        if self.narration.is_live() && self.figures_at.elapsed() >= FIGURES_PERIOD {
            self.figures_at = Instant::now();
            if let Some(figures) = &mut self.figures {
                self.narration.show(&figures.look());
            }
        }
        self.narration.tick();
        Ok(())
    }
}
