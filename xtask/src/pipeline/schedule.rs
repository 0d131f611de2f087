//! Scheduling: which steps run in parallel, in which order, and the estimated time of a run. Pure
//! functions over a plan and numbers; it starts nothing and reads no clock.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{Plan, StepId};

/// The estimated cost of a step, from earlier runs. It changes no byte of any output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cost {
    pub(crate) cores: Cores,
    /// Memory at its peak, in MiB.
    pub(crate) memory: u64,
    /// Time on the machine that `seconds` were taken on (two cores), from nothing.
    pub(crate) seconds: u64,
}

/// How many cores a step keeps busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Cores {
    #[default]
    One,
    /// It has phases on one core and phases on all cores.
    Half,
    All,
}

/// The resources that steps share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    /// Memory that steps may use together, in MiB.
    pub(crate) memory: u64,
}

impl Machine {
    /// This machine, with the memory that is free now; 4 GiB where the system does not report it.
    pub(crate) fn this() -> Self {
        let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_mib(&text));
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            memory: available.unwrap_or(4096),
        }
    }

    fn cores_of(&self, cost: &Cost) -> usize {
        match cost.cores {
            Cores::One => 1,
            Cores::Half => (self.cores / 2).max(1),
            Cores::All => self.cores,
        }
    }

    /// Whether a step may start beside those that run: when a core is free, even if it wants more
    /// of them, so that a step that wants all is not put off by small ones that come and go; and
    /// when there is memory for it. One step may always run.
    fn fits(&self, running: &[Cost], next: &Cost) -> bool {
        let cores: usize = running.iter().map(|cost| self.cores_of(cost)).sum();
        let memory: u64 = running.iter().map(|cost| cost.memory).sum();
        running.is_empty() || (cores < self.cores && memory.saturating_add(next.memory) <= self.memory)
    }
}

fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

/// The steps of a run that have not ended, and how urgent each is.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    machine: Machine,
    waiting: BTreeSet<StepId>,
    /// The waiting steps that are known to have to run.
    must_run: BTreeSet<StepId>,
    running: BTreeMap<StepId, Cost>,
    before: BTreeMap<StepId, BTreeSet<StepId>>,
    costs: BTreeMap<StepId, Cost>,
    /// Place in the plan, by which equally urgent steps are ordered.
    places: BTreeMap<StepId, usize>,
    /// Seconds from a step's start to the end of all steps that depend on it.
    urgency: BTreeMap<StepId, u64>,
}

impl Schedule {
    /// All steps waiting. `seconds` is the estimated time of each.
    pub(crate) fn new(plan: &Plan, machine: Machine, seconds: impl Fn(&StepId) -> u64) -> Self {
        let mut costs = BTreeMap::new();
        let mut before = BTreeMap::new();
        for step in &plan.steps {
            costs.insert(step.id.clone(), Cost { seconds: seconds(&step.id), ..step.cost });
            before.insert(step.id.clone(), step.before().into_iter().cloned().collect::<BTreeSet<_>>());
        }
        let mut urgency: BTreeMap<StepId, u64> = BTreeMap::new();
        for step in plan.steps.iter().rev() {
            let after = before.iter().filter(|(_, before)| before.contains(&step.id));
            let longest = after.filter_map(|(id, _)| urgency.get(id)).max().copied().unwrap_or(0);
            let own = costs.get(&step.id).map_or(0, |cost| cost.seconds);
            urgency.insert(step.id.clone(), own + longest);
        }
        Self {
            machine,
            waiting: plan.steps.iter().map(|step| step.id.clone()).collect(),
            must_run: BTreeSet::new(),
            running: BTreeMap::new(),
            before,
            costs,
            places: plan.steps.iter().enumerate().map(|(place, step)| (step.id.clone(), place)).collect(),
            urgency,
        }
    }

    /// Ready steps, in the order of the plan: their dependencies have ended.
    pub(crate) fn ready(&self) -> Vec<StepId> {
        let open = |id: &StepId| self.waiting.contains(id) || self.running.contains_key(id);
        let mut ready: Vec<StepId> = self
            .waiting
            .iter()
            .filter(|id| self.before.get(*id).is_some_and(|before| !before.iter().any(open)))
            .cloned()
            .collect();
        ready.sort_by_key(|id| self.places.get(id).copied());
        ready
    }

    /// Records that a ready step is not in the store.
    pub(crate) fn must_run(&mut self, id: &StepId) {
        self.must_run.insert(id.clone());
    }

    /// Whether this was recorded for a step.
    pub(crate) fn has_to_run(&self, id: &StepId) -> bool {
        self.must_run.contains(id)
    }

    /// The most urgent ready step, if it may start now; it counts as running from here on. A less
    /// urgent step starts first only if there is not enough memory for the most urgent one.
    pub(crate) fn start(&mut self) -> Option<StepId> {
        let mut ready = self.ready();
        ready.sort_by_key(|id| std::cmp::Reverse(self.urgency.get(id).copied()));
        let running: Vec<Cost> = self.running.values().copied().collect();
        let next =
            ready.into_iter().find(|id| self.costs.get(id).is_some_and(|cost| self.machine.fits(&running, cost)))?;
        self.waiting.remove(&next);
        self.running.insert(next.clone(), self.costs.get(&next).copied().unwrap_or_default());
        Some(next)
    }

    /// Records that a step has ended or need not run.
    pub(crate) fn end(&mut self, id: &StepId) {
        self.waiting.remove(id);
        self.running.remove(id);
    }

    /// Whether a step is running.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Estimated time of a step, in seconds.
    pub(crate) fn expected(&self, id: &StepId) -> u64 {
        self.costs.get(id).map_or(0, |cost| cost.seconds)
    }

    /// Seconds until all steps have ended, given how long the running ones have run. Shared cores
    /// are assumed to serve steps equally.
    pub(crate) fn remaining(&self, elapsed: impl Fn(&StepId) -> u64) -> u64 {
        let mut copy = self.clone();
        let mut left: BTreeMap<StepId, u64> =
            copy.running.iter().map(|(id, cost)| (id.clone(), cost.seconds.saturating_sub(elapsed(id)))).collect();
        let mut total = 0;
        loop {
            while let Some(id) = copy.start() {
                left.insert(id.clone(), copy.costs.get(&id).map_or(0, |cost| cost.seconds));
            }
            let Some((first, seconds)) = left.iter().min_by_key(|(_, seconds)| **seconds) else { return total };
            let (first, seconds) = (first.clone(), *seconds);
            total += seconds;
            left.remove(&first);
            left.values_mut().for_each(|other| *other -= seconds);
            copy.end(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::Inputs;
    use super::super::plan::{Need, Step};
    use super::*;

    fn id(name: &str) -> StepId {
        StepId::new(name).unwrap()
    }

    /// A plan of steps with name, cores, memory, seconds, and the steps before them.
    fn plan(steps: &[(&str, Cores, u64, u64, &[&str])]) -> Plan {
        let step = |(name, cores, memory, seconds, after): &(&str, Cores, u64, u64, &[&str])| Step {
            id: id(name),
            title: String::new(),
            inputs: Inputs::new(),
            after: after.iter().map(|name| Need::all(id(name))).collect(),
            cost: Cost { cores: *cores, memory: *memory, seconds: *seconds },
        };
        Plan::new(1, steps.iter().map(step).collect()).unwrap()
    }

    fn schedule(plan: &Plan, cores: usize, memory: u64) -> Schedule {
        Schedule::new(plan, Machine { cores, memory }, |id| plan.step(id).unwrap().cost.seconds)
    }

    /// The schedule as text: starts in their order, and the end of the shortest step whenever no
    /// other can start.
    fn course(mut schedule: Schedule) -> String {
        let mut text = String::new();
        let mut left: BTreeMap<StepId, u64> = BTreeMap::new();
        loop {
            while let Some(started) = schedule.start() {
                text += &format!("+{started} ");
                left.insert(started.clone(), schedule.costs[&started].seconds);
            }
            let Some((first, seconds)) = left.clone().into_iter().min_by_key(|(_, seconds)| *seconds) else { break };
            left.remove(&first);
            left.values_mut().for_each(|other| *other -= seconds);
            schedule.end(&first);
            text += &format!("-{first} ");
        }
        text.trim_end().to_owned()
    }

    const BUILD: &[(&str, Cores, u64, u64, &[&str])] = &[
        ("image", Cores::One, 100, 60, &[]),
        ("guest", Cores::Half, 500, 200, &["image"]),
        ("suites", Cores::Half, 500, 40, &["image"]),
        ("compiler", Cores::Half, 2000, 200, &["image"]),
        ("program", Cores::Half, 2000, 300, &[]),
        ("aot/main", Cores::All, 3000, 200, &["guest", "compiler"]),
        ("aot/a", Cores::One, 300, 5, &["guest", "compiler"]),
        ("aot/b", Cores::One, 300, 5, &["guest", "compiler"]),
        ("template", Cores::One, 500, 30, &["program", "aot/main"]),
    ];

    #[test]
    fn the_longest_chain_goes_first_and_small_steps_fill_the_gaps() {
        let plan = plan(BUILD);
        insta::assert_snapshot!(course(schedule(&plan, 1, 8000)), @"+image -image +guest -guest +compiler -compiler +program -program +aot/main -aot/main +suites -suites +template -template +aot/a -aot/a +aot/b -aot/b");
        insta::assert_snapshot!(course(schedule(&plan, 2, 8000)), @"+image +program -image +guest -guest +compiler -program +suites -suites -compiler +aot/main -aot/main +template +aot/a -aot/a +aot/b -aot/b -template");
        insta::assert_snapshot!(course(schedule(&plan, 8, 8000)), @"+image +program -image +guest -guest +compiler -program +suites -suites -compiler +aot/main -aot/main +template +aot/a +aot/b -aot/a -aot/b -template");
    }

    #[test]
    fn memory_bounds_what_runs_side_by_side_but_one_step_always_runs() {
        let plan = plan(BUILD);
        insta::assert_snapshot!(course(schedule(&plan, 8, 2600)), @"+image +program -image +guest -guest +suites -program +compiler -suites -compiler +aot/main -aot/main +template +aot/a +aot/b -aot/a -aot/b -template");
        insta::assert_snapshot!(course(schedule(&plan, 8, 0)), @"+image -image +guest -guest +compiler -compiler +program -program +aot/main -aot/main +suites -suites +template -template +aot/a -aot/a +aot/b -aot/b");
    }

    #[test]
    fn a_step_that_wants_every_core_is_not_put_off_by_small_ones() {
        let plan = plan(&[
            ("small-1", Cores::One, 0, 1, &[]),
            ("small-2", Cores::One, 0, 2, &[]),
            ("small-3", Cores::One, 0, 2, &["small-1"]),
            ("large", Cores::All, 0, 9, &["small-1"]),
        ]);
        insta::assert_snapshot!(course(schedule(&plan, 2, 1)), @"+small-1 +small-2 -small-1 +large -small-2 -large +small-3 -small-3");
    }

    #[test]
    fn what_remains_counts_what_has_run_and_what_runs_side_by_side() {
        let plan = plan(&[
            ("a", Cores::One, 0, 10, &[]),
            ("b", Cores::One, 0, 30, &[]),
            ("c", Cores::One, 0, 5, &["a"]),
            ("d", Cores::One, 0, 7, &["b", "c"]),
        ]);
        assert_eq!(schedule(&plan, 1, 1).remaining(|_| 0), 52);
        let mut two = schedule(&plan, 2, 1);
        assert_eq!(two.remaining(|_| 0), 37);
        assert_eq!(two.start(), Some(id("b")));
        assert_eq!(two.remaining(|_| 20), 22, "a and c decide now");
        two.end(&id("b"));
        assert_eq!(two.remaining(|_| 0), 22);
        two.end(&id("a"));
        two.end(&id("c"));
        assert_eq!(two.remaining(|_| 0), 7);
        let mut late = schedule(&plan, 1, 1);
        late.start();
        assert_eq!(late.remaining(|_| 1000), 22, "a step that takes longer than expected counts for nothing");
    }

    #[test]
    fn free_memory_is_read_from_the_systems_table() {
        assert_eq!(available_mib("MemTotal:  100 kB\nMemAvailable:    2097152 kB\n"), Some(2048));
        assert_eq!(available_mib("MemTotal: 100 kB\n"), None);
    }
}
