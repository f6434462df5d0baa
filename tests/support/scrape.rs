//! Reading `/metrics`.
#![allow(dead_code, reason = "each test file uses a part")]

use crate::support::Program;

/// All samples of one scrape.
pub struct Scrape(Vec<Sample>);

pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Scrape {
    /// Asks the program, which wants no key.
    pub fn of(program: &Program) -> Scrape {
        let answer = program.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.text());
        Scrape::read(answer.text())
    }

    pub fn read(text: &str) -> Scrape {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Scrape(samples.map(Sample::read).collect())
    }

    pub fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// What all samples of that name with these labels add up to, if there are any.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fit = self.0.iter().filter(|sample| sample.name == name && sample.has(labels));
        let values: Vec<f64> = fit.map(|sample| sample.value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The same; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }
}

impl Sample {
    fn read(line: &str) -> Sample {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("no figure: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no labels: {line}"));
        // No label of ours holds a quote.
        let labels = labels.split_terminator("\",").map(|label| {
            let (name, value) = label.trim_end_matches('"').split_once("=\"").expect(line);
            (name.to_owned(), value.to_owned())
        });
        Sample { name: name.to_owned(), labels: labels.collect(), value }
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        let own = |name: &str| self.labels.iter().find(|(own, _)| own == name);
        labels.iter().all(|(name, value)| own(name).is_some_and(|(_, own)| own == value))
    }
}
