//! The plan: the steps, what each reads of others, and how fingerprints are computed. A value that
//! `--dry-run` prints and tests compare; it accesses no file and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::fingerprint::{Fingerprint, Hasher, Inputs};
use super::schedule::Cost;
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

/// What a step reads of the output of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) step: StepId,
    /// A file or directory of the output, by its relative path; `None` is all of it.
    pub(crate) part: Option<String>,
}

impl Need {
    /// The whole output of a step.
    pub(crate) fn all(step: StepId) -> Self {
        Self { step, part: None }
    }

    /// One file or directory of a step's output.
    pub(crate) fn part(step: StepId, part: impl Into<String>) -> Self {
        Self { step, part: Some(part.into()) }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            None => write!(f, "{}", self.step),
            Some(part) => write!(f, "{}:{part}", self.step),
        }
    }
}

/// One step as its owner describes it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) id: StepId,
    /// What it does, for messages: "building PostgreSQL".
    pub(crate) title: String,
    pub(crate) inputs: Inputs,
    /// What it reads of other steps' outputs.
    pub(crate) after: Vec<Need>,
    pub(crate) cost: Cost,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub(crate) struct PlannedStep {
    pub(crate) id: StepId,
    pub(crate) title: String,
    /// Hash of the pipeline's version, the step's name and its own inputs.
    own: Fingerprint,
    pub(crate) inputs: BTreeMap<String, Fingerprint>,
    /// Whether one of the inputs is a file of the checkout.
    pub(crate) reads_files: bool,
    /// What it reads of other steps' outputs.
    pub(crate) after: BTreeSet<Need>,
    pub(crate) cost: Cost,
}

/// A step whose fingerprint is known, because the outputs that it reads exist.
#[derive(Debug, Clone)]
pub(crate) struct KeyedStep<'a> {
    pub(crate) step: &'a PlannedStep,
    /// Identifies the output: equal fingerprints mean equal bytes.
    pub(crate) fingerprint: Fingerprint,
    /// Hashes of the contents that it reads.
    pub(crate) after: BTreeMap<Need, Fingerprint>,
    /// Fingerprints of the steps that made these contents. Not part of the fingerprint.
    pub(crate) from: BTreeMap<StepId, Fingerprint>,
}

impl PlannedStep {
    /// The step with its fingerprint: the hash of its own inputs and of the *contents* that it
    /// reads. A step before it that ran again and gave the same bytes therefore leaves this one as
    /// it was.
    pub(crate) fn keyed(&self, outputs: &BTreeMap<StepId, Output>) -> Result<KeyedStep<'_>> {
        let mut hasher = Hasher::new("step with what it reads");
        hasher.fingerprint("own", &self.own);
        hasher.number("after", self.after.len() as u64);
        let (mut after, mut from) = (BTreeMap::new(), BTreeMap::new());
        for need in &self.after {
            let output = outputs
                .get(&need.step)
                .ok_or_else(|| Error::new(format!("step {} comes before {need} is there", self.id)))?;
            let digest = output.contents.digest(need.part.as_deref()).ok_or_else(|| {
                Error::new(format!("step {} reads {need}, which that step has not made", self.id))
                    .repair("correct the name in the plan, or have the step make it")
            })?;
            hasher.fingerprint(&need.to_string(), &digest);
            after.insert(need.clone(), digest);
            from.insert(need.step.clone(), output.fingerprint);
        }
        Ok(KeyedStep { step: self, fingerprint: hasher.finish(), after, from })
    }

    /// The steps whose outputs it reads.
    pub(crate) fn before(&self) -> BTreeSet<&StepId> {
        self.after.iter().map(|need| &need.step).collect()
    }
}

/// The finished output of a step.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    /// Of the step that made it.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) contents: Arc<Contents>,
}

/// Steps in an order in which they can run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<PlannedStep>,
}

/// Whether a step has to run, as far as this is known before any step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepState {
    Cached,
    /// With the reasons, for messages.
    ToBuild(Vec<String>),
    /// It has to run if one of these steps, which have to run first, gives other bytes than before.
    Open(Vec<StepId>),
}

impl Plan {
    /// Orders the steps. Of the possible orders it takes the one closest to the given.
    pub(crate) fn new(pipeline_version: u64, steps: Vec<Step>) -> Result<Self> {
        let mut names = BTreeSet::new();
        for step in &steps {
            if !names.insert(step.id.clone()) {
                return Err(Error::new(format!("step {} is planned twice", step.id)));
            }
        }
        for step in &steps {
            if let Some(missing) = step.after.iter().find(|need| !names.contains(&need.step)) {
                return Err(Error::new(format!("step {} comes after {}, which is not planned", step.id, missing.step)));
            }
        }
        let mut waiting = steps;
        let mut done: BTreeSet<StepId> = BTreeSet::new();
        let mut ordered = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|step| step.after.iter().all(|need| done.contains(&need.step)));
            let Some(ready) = ready else {
                let names = waiting.iter().map(|step| step.id.to_string()).collect::<Vec<_>>().join(", ");
                return Err(Error::new(format!("these steps wait for each other: {names}")));
            };
            let Step { id, title, inputs, after, cost } = waiting.remove(ready);
            let (inputs, reads_files) = (inputs.digests().clone(), inputs.are_files());
            let mut hasher = Hasher::new("step");
            hasher.number("pipeline", pipeline_version);
            hasher.text("id", &id.0);
            for (name, digest) in &inputs {
                hasher.fingerprint(name, digest);
            }
            done.insert(id.clone());
            let after = after.into_iter().collect();
            ordered.push(PlannedStep { id, title, own: hasher.finish(), inputs, reads_files, after, cost });
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
                wanted.extend(step.before().into_iter().cloned());
            }
        }
        Ok(Self { steps: self.steps.iter().filter(|step| wanted.contains(&step.id)).cloned().collect() })
    }

    pub(crate) fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The plan as text: one line per step, with the reason if it has to run.
    pub(crate) fn render(&self, state: impl Fn(&PlannedStep) -> StepState) -> String {
        let width = self.steps.iter().map(|step| step.id.0.len()).max().unwrap_or(0);
        let total = self.steps.len();
        let mut text = String::new();
        let (mut to_build, mut open) = (0, 0);
        for (index, step) in self.steps.iter().enumerate() {
            let (word, reasons) = match state(step) {
                StepState::Cached => ("cached", vec![]),
                StepState::ToBuild(reasons) => {
                    to_build += 1;
                    ("build", reasons)
                }
                StepState::Open(before) => {
                    open += 1;
                    let names = before.iter().map(StepId::to_string).collect::<Vec<_>>().join(", ");
                    ("open", vec![format!("unless the output of {names} stays the same")])
                }
            };
            // Writing into a String cannot fail.
            let _ = writeln!(text, "[{}/{total}] {:width$}  {word:6}  {}", index + 1, step.id.0, step.title);
            for reason in reasons {
                let _ = writeln!(text, "        {reason}");
            }
        }
        let open = if open == 0 { String::new() } else { format!(", {open} more if what they read changes") };
        let _ = writeln!(text, "{to_build} of {total} steps to build{open}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::FileContent;
    use super::*;

    fn id(name: &str) -> StepId {
        StepId::new(name).unwrap()
    }

    fn need(name: &str) -> Need {
        match name.split_once(':') {
            None => Need::all(id(name)),
            Some((step, part)) => Need::part(id(step), part),
        }
    }

    fn step(name: &str, input: &str, after: &[&str]) -> Step {
        Step {
            id: id(name),
            title: format!("making {name}"),
            inputs: Inputs::new().text("source", input).unwrap(),
            after: after.iter().map(|name| need(name)).collect(),
            cost: Cost::default(),
        }
    }

    fn steps() -> Vec<Step> {
        vec![
            step("aot/main", "llvm", &["guest/main:postgres.wasm", "image"]),
            step("image", "debs", &[]),
            step("guest/main", "c", &["image"]),
            step("guest/vector", "v", &["guest/main:include"]),
        ]
    }

    /// Fingerprints where each step gives a file for each of its outputs, with these contents by
    /// `step:file`.
    fn fingerprints(steps: Vec<Step>, contents: &[(&str, &str)]) -> BTreeMap<String, Fingerprint> {
        let plan = Plan::new(1, steps).unwrap();
        let mut outputs = BTreeMap::new();
        let mut found = BTreeMap::new();
        for step in &plan.steps {
            let keyed = step.keyed(&outputs).unwrap();
            let mut output = Contents::default();
            for name in ["postgres.wasm", "include"] {
                let at = format!("{}:{name}", step.id);
                let text = contents.iter().find(|(n, _)| *n == at).map_or(name, |(_, text)| *text);
                let file = FileContent { size: 1, sha256: Fingerprint::of_bytes(text.as_bytes()), executable: false };
                output.files.insert(name.to_owned(), file);
            }
            let contents = Arc::new(output);
            let output = Output { path: PathBuf::new(), fingerprint: keyed.fingerprint, contents };
            found.insert(step.id.to_string(), keyed.fingerprint);
            outputs.insert(step.id.clone(), output);
        }
        found
    }

    fn changed(steps: Vec<Step>, contents: &[(&str, &str)]) -> Vec<String> {
        let before = fingerprints(self::steps(), &[]);
        let after = fingerprints(steps, contents);
        after.into_iter().filter(|(id, f)| before.get(id) != Some(f)).map(|(id, _)| id).collect()
    }

    #[test]
    fn a_change_reaches_its_step_and_goes_on_only_if_the_output_changes() {
        let mut all = steps();
        all[2].inputs = Inputs::new().text("source", "/* a comment */ c").unwrap();
        assert_eq!(changed(all.clone(), &[]), ["guest/main"], "the same bytes came out");
        assert_eq!(changed(all.clone(), &[("guest/main:include", "new")]), ["guest/main", "guest/vector"]);
        assert_eq!(changed(all.clone(), &[("guest/main:postgres.wasm", "new")]), ["aot/main", "guest/main"]);
        assert_eq!(changed(steps(), &[("guest/vector:include", "new")]), Vec::<String>::new(), "read by no step");
        let mut all = steps();
        all[1].inputs = Inputs::new().text("sources", "debs").unwrap();
        assert_eq!(changed(all.clone(), &[]), ["image"]);
        assert_eq!(changed(all, &[("image:include", "new")]), ["aot/main", "guest/main", "image"]);
        let mut all = steps();
        all[3].after.push(need("image"));
        assert_eq!(changed(all, &[]), ["guest/vector"]);
        let mut all = steps();
        all[0].title = "another title".to_owned();
        all[0].cost.seconds = 7;
        all.reverse();
        all[3].after.reverse();
        assert!(changed(all, &[]).is_empty(), "neither titles nor costs nor the order count");
        let own = |version| Plan::new(version, steps()).unwrap().steps.into_iter().map(|s| s.own);
        assert!(own(1).zip(own(2)).all(|(a, b)| a != b));
    }

    #[test]
    fn a_part_that_is_not_there_is_named() {
        let plan = Plan::new(1, vec![step("a", "", &[]), step("b", "", &["a:gone"])]).unwrap();
        let contents = Arc::new(Contents::default());
        let output = Output { path: PathBuf::new(), fingerprint: Fingerprint::of_bytes(b""), contents };
        let error = plan.steps[1].keyed(&[(id("a"), output)].into()).unwrap_err();
        insta::assert_snapshot!(error, @r"
        step b reads a:gone, which that step has not made
          repair: correct the name in the plan, or have the step make it
        ");
    }

    #[test]
    fn the_plan_is_rendered_in_running_order_with_reasons() {
        let plan = Plan::new(1, steps()).unwrap();
        let text = plan.render(|step| match step.id.0.as_str() {
            "image" => StepState::Cached,
            "guest/main" => StepState::ToBuild(vec!["input `source` changed".to_owned()]),
            _ => StepState::Open(vec![id("guest/main")]),
        });
        insta::assert_snapshot!(text, @"
        [1/4] image         cached  making image
        [2/4] guest/main    build   making guest/main
                input `source` changed
        [3/4] aot/main      open    making aot/main
                unless the output of guest/main stays the same
        [4/4] guest/vector  open    making guest/vector
                unless the output of guest/main stays the same
        1 of 4 steps to build, 2 more if what they read changes
        ");
        let part = plan.restricted_to(&[id("guest/main")]).unwrap();
        assert_eq!(part.steps.iter().map(|step| step.id.0.as_str()).collect::<Vec<_>>(), ["image", "guest/main"]);
        assert_eq!(part.steps[1].own, plan.step(&id("guest/main")).unwrap().own);
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
