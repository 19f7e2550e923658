//! The end: what each act showed, and what became of every request.

use std::path::Path;

use super::acts::Verdict;
use super::load::Tally;
use super::scene::Scene;

/// The last word on a show.
#[derive(Debug)]
pub(super) struct Summary {
    verdicts: Vec<Verdict>,
    total: Tally,
}

impl Summary {
    pub(super) fn new(verdicts: Vec<Verdict>, total: Tally) -> Self {
        Self { verdicts, total }
    }

    /// Whether every act showed what it should, and every request was answered well.
    pub(super) fn is_well(&self) -> bool {
        let Tally { sent, failed, .. } = self.total;
        let are_well = self.verdicts.iter().all(|verdict| verdict.is_well);
        are_well && sent > 0 && self.total.unanswered() == 0 && failed == 0
    }

    /// All of it, in lines.
    pub(super) fn text(&mut self) -> String {
        let mut text = "\n== Summary\n".to_owned();
        for Verdict { act, found, is_well } in &self.verdicts {
            let mark = if *is_well { "ok    " } else { "FAILED" };
            text.push_str(&format!("{mark} {act:<11} {found}\n"));
        }
        let lost = self.total.unanswered();
        let [p50, p99] = [50, 99].map(|percent| self.total.latency_ms(percent).unwrap_or_default());
        let Tally { sent, answered, failed, trouble, .. } = &self.total;
        text.push_str(&format!(
            "requests: sent {sent}, answered {answered}, lost {lost}, failed {failed}; \
             p50 {p50:.1} ms, p99 {p99:.1} ms at the client\n"
        ));
        if let Some(trouble) = trouble {
            text.push_str(&format!("what first went wrong: {trouble}\n"));
        }
        text.push_str(match self.is_well() {
            true => "All was well.\n",
            false => "Not all was well, see above.\n",
        });
        text
    }
}

/// What one may try while it stays.
pub(super) fn invitation(scene: &Scene) -> String {
    let edge = scene.edge();
    let admin = scene.admin(super::plan::EDGE);
    let program = scene.control.program.display();
    let (api, config) = (&scene.control.api, scene.config());
    let route = config.join(super::config::ROUTE_FILE);
    let route = Path::display(&route);
    format!(
        "\n== It stays up until ctrl-C. Go on with:\n\
         curl http://{edge}/\n\
         for i in $(seq 100); do curl -s http://{edge}/; done | sort | uniq -c\n\
         $EDITOR {route}\n\
         {program} status --api {api}\n\
         {program} history --api {api}\n\
         {program} rollback 1 --api {api}\n\
         {program} resume --api {api}\n\
         curl -s http://{admin}/metrics | grep response_total\n\
         The config is in {}, logs are in {}.\n",
        config.display(),
        scene.logs().display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(is_well: bool, answered: u64, failed: u64) -> Summary {
        let verdict = Verdict { act: "canary", found: "9.8 %".to_owned(), is_well };
        let total = Tally { sent: 10, answered, failed, ..Tally::default() };
        Summary::new(vec![verdict], total)
    }

    #[test]
    fn all_is_well_only_if_nothing_is_lost_or_failed_and_every_act_is_well() {
        assert!(summary(true, 10, 0).is_well());
        for bad in [summary(false, 10, 0), summary(true, 9, 0), summary(true, 10, 1)] {
            assert!(!bad.is_well(), "{bad:?}");
        }
        assert!(!Summary::new(Vec::new(), Tally::default()).is_well(), "nothing was sent");
        let text = summary(true, 9, 0).text();
        assert!(text.contains("sent 10, answered 9, lost 1, failed 0"), "{text}");
        assert!(text.ends_with("Not all was well, see above.\n"), "{text}");
    }
}
