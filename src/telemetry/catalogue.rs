//! The catalogue of metrics: it registers each metric and keeps its description, for
//! `docs/reference/metrics.md` and for tests of the possible series.

use std::fmt::Write as _;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::Collector,
    proto::{MetricFamily, MetricType},
};

/// A label of a metric.
#[derive(Clone, Debug)]
pub struct Label {
    /// The name of the label.
    pub name: &'static str,
    /// The possible values.
    pub values: Values,
}

/// The values of a label. Both kinds are bounded: no caller and no source can add values.
#[derive(Clone, Debug)]
pub enum Values {
    /// A fixed list of words.
    Words(Vec<&'static str>),
    /// One value for each thing that this text names.
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

/// The description of a metric.
#[derive(Clone, Debug)]
pub struct Described {
    /// The name of the metric.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The help, in one sentence.
    pub help: String,
    /// The labels, in the order of their values.
    pub labels: Vec<Label>,
}

impl Described {
    /// Returns the unit, which the end of the name tells; empty for a plain number.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let units = [("_seconds", "seconds"), ("_bytes", "bytes"), ("_request_budget", "requests a second")];
        let known = units.iter().find(|(suffix, _)| self.name.ends_with(suffix));
        known.map_or("", |(_, unit)| unit)
    }
}

/// The metrics of a process: the Prometheus registry, and a description of each metric.
#[derive(Default)]
pub struct Catalogue {
    registry: Registry,
    metrics: Vec<Described>,
}

impl Catalogue {
    /// Registers a counter with labels.
    pub(crate) fn counters(&mut self, name: &str, help: &str, labels: &[Label]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), &names(labels)), labels)
    }

    /// Registers a gauge of whole numbers with labels.
    pub(crate) fn gauges(&mut self, name: &str, help: &str, labels: &[Label]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), &names(labels)), labels)
    }

    /// Registers a gauge of any numbers with labels.
    pub(crate) fn float_gauges(&mut self, name: &str, help: &str, labels: &[Label]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), &names(labels)), labels)
    }

    /// Registers a histogram with labels.
    pub(crate) fn histograms(&mut self, options: HistogramOpts, labels: &[Label]) -> HistogramVec {
        self.add(HistogramVec::new(options, &names(labels)), labels)
    }

    /// Registers a metric and keeps its description.
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
        // No name is registered twice.
        let _ = self.registry.register(Box::new(collector.clone()));
        collector
    }

    /// Returns every metric, ordered by name.
    #[must_use]
    pub fn metrics(&self) -> Vec<&Described> {
        let mut metrics: Vec<&Described> = self.metrics.iter().collect();
        metrics.sort_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    /// Starts the series of a counter for one source or sink at zero. An alert on a rate misses the
    /// first step of a series that starts above zero.
    pub(crate) fn begin(&self, counters: &IntCounterVec, owner: &str) {
        match self.labels(counters) {
            [_] => drop(counters.with_label_values(&[owner])),
            [_, second] => second.each_word(|word| drop(counters.with_label_values(&[owner, word]))),
            _ => {}
        }
    }

    /// Starts the series of a counter of the process at zero.
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

    /// Returns the table of `docs/reference/metrics.md`.
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

/// Returns an unregistered counter, to be replaced by a registered one.
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
