//! The metrics as data: what is registered is written down beside it, for `docs/reference/metrics.md` and for whoever wants to
//! know which series can occur.

use std::fmt::Write as _;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::Collector,
    proto::{MetricFamily, MetricType},
};

/// A label of a metric.
#[derive(Clone, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub values: Values,
}

/// The values of a label. Both kinds are bounded: neither a caller nor a source can make up new ones.
#[derive(Clone, Debug)]
pub enum Values {
    /// One of these.
    Words(Vec<&'static str>),
    /// As many as there are of what is named here.
    Each(&'static str),
}

impl Label {
    /// The name of a configured source.
    pub(crate) const SOURCE: Self = Self::each("source", "name of a configured source");
    /// The name of a configured sink.
    pub(crate) const SINK: Self = Self::each("sink", "name of a configured sink, or `callback`");

    pub(crate) const fn each(name: &'static str, what: &'static str) -> Self {
        Self { name, values: Values::Each(what) }
    }

    pub(crate) fn words(name: &'static str, words: &[&'static str]) -> Self {
        Self { name, values: Values::Words(words.to_vec()) }
    }

    fn each_word(&self, work: impl FnMut(&&'static str)) {
        if let Values::Words(words) = &self.values {
            words.iter().for_each(work);
        }
    }
}

/// A metric that can occur.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// One sentence.
    pub help: String,
    /// Its labels, in the order in which their values are given.
    pub labels: Vec<Label>,
}

impl Described {
    /// The base unit, after the name; empty for a plain number.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let units = [("_seconds", "seconds"), ("_bytes", "bytes"), ("_request_budget", "requests a second")];
        let known = units.iter().find(|(suffix, _)| self.name.ends_with(suffix));
        known.map_or("", |(_, unit)| unit)
    }
}

/// The metrics of a process: those that Prometheus knows, and what they are.
#[derive(Default)]
pub struct Catalogue {
    registry: Registry,
    metrics: Vec<Described>,
}

impl Catalogue {
    /// A counter with labels.
    pub(crate) fn counters(&mut self, name: &str, help: &str, labels: &[Label]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), &names(labels)), labels)
    }

    /// A gauge of whole numbers with labels.
    pub(crate) fn gauges(&mut self, name: &str, help: &str, labels: &[Label]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), &names(labels)), labels)
    }

    /// A gauge of any numbers with labels.
    pub(crate) fn float_gauges(&mut self, name: &str, help: &str, labels: &[Label]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), &names(labels)), labels)
    }

    /// A histogram with labels.
    pub(crate) fn histograms(&mut self, options: HistogramOpts, labels: &[Label]) -> HistogramVec {
        self.add(HistogramVec::new(options, &names(labels)), labels)
    }

    /// Registers a metric and notes what it is.
    pub(crate) fn add<C: Collector + Clone + 'static>(
        &mut self,
        made: prometheus::Result<C>,
        labels: &[Label],
    ) -> C {
        #[expect(clippy::expect_used, reason = "the names are constants, and a test makes them all")]
        let collector = made.expect("a metric's name is valid");
        let kind = match collector.collect().first().map(MetricFamily::get_field_type) {
            Some(MetricType::COUNTER) => "counter",
            Some(MetricType::HISTOGRAM) => "histogram",
            _ => "gauge",
        };
        self.metrics.extend(collector.desc().first().map(|described| Described {
            name: described.fq_name.clone(),
            kind,
            help: described.help.clone(),
            labels: labels.to_vec(),
        }));
        // Each name is registered once.
        let _ = self.registry.register(Box::new(collector.clone()));
        collector
    }

    /// Every metric, by name.
    #[must_use]
    pub fn metrics(&self) -> Vec<&Described> {
        let mut metrics: Vec<&Described> = self.metrics.iter().collect();
        metrics.sort_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    /// Shows the series of a counter for one source or sink at zero: an alert on a rate misses the first step of a
    /// series that begins with it.
    pub(crate) fn begin(&self, counters: &IntCounterVec, owner: &str) {
        match self.labels(counters) {
            [_] => drop(counters.with_label_values(&[owner])),
            [_, second] => second.each_word(|word| drop(counters.with_label_values(&[owner, word]))),
            _ => {}
        }
    }

    /// The same for a counter that belongs to the process.
    pub(crate) fn begin_words(&self, counters: &IntCounterVec) {
        for label in self.labels(counters) {
            label.each_word(|word| drop(counters.with_label_values(&[word])));
        }
    }

    fn labels(&self, counters: &IntCounterVec) -> &[Label] {
        let is = |metric: &&Described| counters.desc().iter().any(|known| known.fq_name == metric.name);
        self.metrics.iter().find(is).map_or(&[], |metric| &metric.labels)
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// The table of `docs/reference/metrics.md`.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "| metric | type | unit | is | labels |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for metric in self.metrics() {
            let (name, kind, unit, help) = (&metric.name, metric.kind, metric.unit(), &metric.help);
            let labels: Vec<String> = metric.labels.iter().map(shown).collect();
            // Writing to memory cannot fail.
            let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {help} | {} |", labels.join("; "));
        }
        text
    }
}

/// A counter that no process shows until it is replaced by one that is registered.
pub(crate) fn loose_counter() -> IntCounter {
    Catalogue::default().add(IntCounter::new("loose", "Not registered."), &[])
}

fn names(labels: &[Label]) -> Vec<&'static str> {
    labels.iter().map(|label| label.name).collect()
}

fn shown(label: &Label) -> String {
    let name = label.name;
    match &label.values {
        Values::Each(what) => format!("`{name}`: {what}"),
        Values::Words(words) => format!("`{name}`: `{}`", words.join("`, `")),
    }
}
