//! The plan: which steps there are, in which order, and the fingerprint of each. A value that is printed by `--dry-run` and compared in tests; it touches no file
//! and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::fingerprint::{Fingerprint, Hasher, Inputs};
use crate::error::{Error, Result};

/// Name of a step, such as `guest/postgresql`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StepId(String);

impl StepId {
    /// A name made of lowercase words, digits, `-`, `_` and `.`, in parts separated by `/`.
    pub(crate) fn new(id: &str) -> Result<Self> {
        let part_is_fine = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
                && !part.contains("--")
                && !part.ends_with('-')
        };
        if id.split('/').all(part_is_fine) {
            Ok(Self(id.to_owned()))
        } else {
            Err(Error::new(format!("`{id}` is no step name: expected lowercase words separated by `/`")))
        }
    }

    /// The name as one directory name. No part has a `--`, so two names never share a directory.
    pub(crate) fn directory(&self) -> String {
        self.0.replace('/', "--")
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One step as its owner describes it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) id: StepId,
    /// What it does, for people: "building PostgreSQL".
    pub(crate) title: String,
    pub(crate) inputs: Inputs,
    /// Steps whose output it reads.
    pub(crate) after: Vec<StepId>,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub(crate) struct PlannedStep {
    pub(crate) id: StepId,
    pub(crate) title: String,
    /// Names the output: the same fingerprint, the same bytes.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) inputs: BTreeMap<String, Fingerprint>,
    /// Steps whose output it reads, with theirs.
    pub(crate) after: BTreeMap<StepId, Fingerprint>,
}

/// Steps in an order in which they can run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<PlannedStep>,
}

/// Whether a step has to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepState {
    Cached,
    /// With the reasons, for people.
    ToBuild(Vec<String>),
}

impl Plan {
    /// Orders the steps and fingerprints each from the pipeline's version, its name, its inputs and the fingerprints of the steps before it. Of the possible
    /// orders it takes the one closest to the given.
    pub(crate) fn new(pipeline_version: u64, steps: Vec<Step>) -> Result<Self> {
        let mut names = BTreeSet::new();
        for step in &steps {
            if !names.insert(step.id.clone()) {
                return Err(Error::new(format!("step {} is planned twice", step.id)));
            }
        }
        for step in &steps {
            if let Some(missing) = step.after.iter().find(|id| !names.contains(id)) {
                return Err(Error::new(format!("step {} comes after {missing}, which is not planned", step.id)));
            }
        }
        let mut waiting = steps;
        let mut done: BTreeMap<StepId, Fingerprint> = BTreeMap::new();
        let mut ordered = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|step| step.after.iter().all(|id| done.contains_key(id)));
            let Some(ready) = ready else {
                let names = waiting.iter().map(|step| step.id.to_string()).collect::<Vec<_>>().join(", ");
                return Err(Error::new(format!("these steps wait for each other: {names}")));
            };
            let Step { id, title, inputs, after } = waiting.remove(ready);
            let after: BTreeMap<_, _> = after
                .into_iter()
                .filter_map(|id| done.get(&id).map(|fingerprint| (id.clone(), *fingerprint)))
                .collect();
            let inputs = inputs.digests().clone();
            let mut hasher = Hasher::new("step");
            hasher.number("pipeline", pipeline_version);
            hasher.text("id", &id.0);
            for (name, digest) in &inputs {
                hasher.fingerprint(name, digest);
            }
            hasher.number("after", after.len() as u64);
            for (id, digest) in &after {
                hasher.fingerprint(&id.0, digest);
            }
            let fingerprint = hasher.finish();
            done.insert(id.clone(), fingerprint);
            ordered.push(PlannedStep { id, title, fingerprint, inputs, after });
        }
        Ok(Self { steps: ordered })
    }

    /// The part of the plan that the given steps need.
    pub(crate) fn restricted_to(&self, targets: &[StepId]) -> Result<Self> {
        let mut wanted: BTreeSet<StepId> = targets.iter().cloned().collect();
        if let Some(unknown) = targets.iter().find(|id| self.step(id).is_none()) {
            return Err(Error::new(format!("there is no step {unknown}")));
        }
        for step in self.steps.iter().rev() {
            if wanted.contains(&step.id) {
                wanted.extend(step.after.keys().cloned());
            }
        }
        Ok(Self { steps: self.steps.iter().filter(|step| wanted.contains(&step.id)).cloned().collect() })
    }

    pub(crate) fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The plan as text: one line a step, and why it has to run if it has to.
    pub(crate) fn render(&self, state: impl Fn(&PlannedStep) -> StepState) -> String {
        let width = self.steps.iter().map(|step| step.id.0.len()).max().unwrap_or(0);
        let total = self.steps.len();
        let mut text = String::new();
        let mut to_build = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let state = state(step);
            let word = if state == StepState::Cached { "cached" } else { "build" };
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "[{}/{total}] {:width$}  {}  {word:6}  {}",
                index + 1,
                step.id.0,
                step.fingerprint.short(),
                step.title
            );
            if let StepState::ToBuild(reasons) = state {
                to_build += 1;
                for reason in reasons {
                    let _ = writeln!(text, "        {reason}");
                }
            }
        }
        let _ = writeln!(text, "{to_build} of {total} steps to build");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> StepId {
        StepId::new(name).unwrap()
    }

    fn step(name: &str, input: &str, after: &[&str]) -> Step {
        Step {
            id: id(name),
            title: format!("making {name}"),
            inputs: Inputs::new().text("source", input).unwrap(),
            after: after.iter().map(|name| id(name)).collect(),
        }
    }

    fn steps() -> Vec<Step> {
        vec![
            step("aot/main", "llvm", &["guest/main", "image"]),
            step("image", "debs", &[]),
            step("guest/main", "c", &["image"]),
            step("guest/vector", "v", &["guest/main"]),
        ]
    }

    fn fingerprints(steps: Vec<Step>) -> BTreeMap<String, Fingerprint> {
        Plan::new(1, steps).unwrap().steps.into_iter().map(|step| (step.id.to_string(), step.fingerprint)).collect()
    }

    fn changed(steps: Vec<Step>) -> Vec<String> {
        let before = fingerprints(self::steps());
        fingerprints(steps).into_iter().filter(|(id, f)| before.get(id) != Some(f)).map(|(id, _)| id).collect()
    }

    #[test]
    fn a_change_reaches_the_steps_that_depend_on_it_and_no_other() {
        let mut all = steps();
        all[3].inputs = Inputs::new().text("source", "w").unwrap();
        assert_eq!(changed(all), ["guest/vector"]);
        let mut all = steps();
        all[2].inputs = Inputs::new().text("source", "C").unwrap();
        assert_eq!(changed(all), ["aot/main", "guest/main", "guest/vector"]);
        let mut all = steps();
        all[1].inputs = Inputs::new().text("sources", "debs").unwrap();
        assert_eq!(changed(all), ["aot/main", "guest/main", "guest/vector", "image"]);
        let mut all = steps();
        all[3].after.push(id("image"));
        assert_eq!(changed(all), ["guest/vector"]);
        let mut all = steps();
        all[0].title = "another title".to_owned();
        all.reverse();
        all[3].after.reverse();
        assert!(changed(all).is_empty(), "neither titles nor the order count");
        let other_version = Plan::new(2, steps()).unwrap();
        assert!(other_version.steps.iter().all(|s| fingerprints(steps())[&s.id.to_string()] != s.fingerprint));
    }

    #[test]
    fn the_plan_is_rendered_in_running_order_with_reasons() {
        let plan = Plan::new(1, steps()).unwrap();
        let text = plan.render(|step| match step.id.0.as_str() {
            "image" => StepState::Cached,
            "guest/main" => StepState::ToBuild(vec!["input `source` changed".to_owned()]),
            _ => StepState::ToBuild(vec!["never built".to_owned()]),
        });
        insta::assert_snapshot!(text, @"
        [1/4] image         a74d0550929d  cached  making image
        [2/4] guest/main    8c97bbcf338a  build   making guest/main
                input `source` changed
        [3/4] aot/main      5640f55f31b2  build   making aot/main
                never built
        [4/4] guest/vector  c6773faf5c99  build   making guest/vector
                never built
        3 of 4 steps to build
        ");
        let part = plan.restricted_to(&[id("guest/main")]).unwrap();
        assert_eq!(part.steps.iter().map(|step| step.id.0.as_str()).collect::<Vec<_>>(), ["image", "guest/main"]);
        assert_eq!(part.steps[1].fingerprint, plan.step(&id("guest/main")).unwrap().fingerprint);
    }

    #[test]
    fn impossible_plans_are_refused() {
        let error = |steps| Plan::new(1, steps).unwrap_err().to_string();
        insta::assert_snapshot!(error(vec![step("a", "", &["b"])]), @"step a comes after b, which is not planned");
        insta::assert_snapshot!(error(vec![step("a", "", &[]), step("a", "", &[])]), @"step a is planned twice");
        insta::assert_snapshot!(error(vec![step("c", "", &[]), step("a", "", &["b"]), step("b", "", &["a"])]), @"these steps wait for each other: a, b");
        assert!(Plan::new(1, steps()).unwrap().restricted_to(&[id("nothing")]).is_err());
        for bad in ["", "/", "a//b", "../a", "A", "a b", "a/", "a--b", "a-/b"] {
            assert!(StepId::new(bad).is_err(), "{bad}");
        }
    }
}
