//! Counts the tokens of an answer: those that LangFast reports, and estimates of the rest.

use crate::chat::{ReportedUsage, Usage};

/// The tokens of a request's prompts and choices.
#[derive(Debug)]
pub struct Tally {
    prompts: Vec<PromptTokens>,
    choices: Vec<ChoiceTokens>,
}

/// The tokens of a prompt, which counts once, however many choices it has, as with OpenAI.
#[derive(Clone, Copy, Debug, Default)]
struct PromptTokens {
    estimate: u64,
    reported: Option<u64>,
    cached: Option<u64>,
}

/// The tokens of a choice, apart from its prompt's.
#[derive(Debug)]
struct ChoiceTokens {
    /// The index of its prompt.
    prompt: usize,
    /// The tokens that LangFast has reported of the choice's first and second run.
    runs: [ReportedUsage; 2],
    /// The estimate of its second run's prompt, before that run counts.
    prepared: Option<u64>,
    /// The second run's prompt, once that run has been started.
    second: Option<PromptTokens>,
}

impl PromptTokens {
    fn of(estimate: u64) -> PromptTokens {
        PromptTokens { estimate, ..PromptTokens::default() }
    }

    fn note(&mut self, usage: &ReportedUsage) {
        if usage.prompt_tokens.is_some() {
            (self.reported, self.cached) = (usage.prompt_tokens, usage.cached_tokens);
        }
    }

    fn total(&self) -> u64 {
        self.reported.unwrap_or(self.estimate)
    }
}

impl Tally {
    /// Nothing is reported yet. For each prompt its estimated tokens, and the number of its choices.
    pub fn new(prompts: impl IntoIterator<Item = (u64, usize)>) -> Tally {
        let prompts: Vec<(u64, usize)> = prompts.into_iter().collect();
        // Room for exactly so many: it is kept for as long as the answer takes.
        let mut choices = Vec::with_capacity(prompts.iter().map(|(_, choices)| choices).sum());
        for (prompt, (_, of_prompt)) in prompts.iter().enumerate() {
            let choice =
                |_| ChoiceTokens { prompt, runs: Default::default(), prepared: None, second: None };
            choices.extend((0..*of_prompt).map(choice));
        }
        let prompts = prompts.into_iter().map(|(estimate, _)| PromptTokens::of(estimate));
        Tally { prompts: prompts.collect(), choices }
    }

    /// Tokens of all prompts so far.
    pub fn prompt_tokens(&self) -> u64 {
        self.all_prompts().map(PromptTokens::total).sum()
    }

    /// Notes that a choice is to get a second run whose prompt is estimated to have these tokens.
    pub fn prepare_second(&mut self, at: usize, estimate: u64) {
        self.choices[at].prepared = Some(estimate);
    }

    /// Notes that a further run of a choice has been started: the one that was prepared, or one that takes
    /// the place of a run that has failed before any text, and counts instead of that one.
    pub fn begin_further(&mut self, at: usize) {
        let choice = &mut self.choices[at];
        match choice.prepared.take() {
            Some(estimate) => choice.second = Some(PromptTokens::of(estimate)),
            None => choice.runs[usize::from(choice.second.is_some())] = ReportedUsage::default(),
        }
    }

    /// Notes what LangFast reports of the latest run of a choice.
    pub fn note(&mut self, at: usize, usage: &ReportedUsage) {
        let choice = &mut self.choices[at];
        match &mut choice.second {
            Some(second) => second.note(usage),
            None => self.prompts[choice.prompt].note(usage),
        }
        choice.runs[usize::from(choice.second.is_some())] = *usage;
    }

    /// The usage of the answer; `estimates` are the tokens of each choice's first and second run.
    pub fn usage(&self, estimates: impl Iterator<Item = [u64; 2]>) -> Usage {
        let mut usage = Usage { prompt_tokens: self.prompt_tokens(), ..Usage::default() };
        usage.cached_tokens = self.all_prompts().filter_map(|prompt| prompt.cached).sum();
        for (choice, estimates) in self.choices.iter().zip(estimates) {
            for (run, estimate) in choice.runs.iter().zip(estimates) {
                usage.completion_tokens += run.completion_tokens.unwrap_or(estimate);
                usage.reasoning_tokens += run.reasoning_tokens.unwrap_or(0);
            }
        }
        usage
    }

    fn all_prompts(&self) -> impl Iterator<Item = &PromptTokens> {
        self.prompts.iter().chain(self.choices.iter().filter_map(|choice| choice.second.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(prompt: u64, completion: u64) -> ReportedUsage {
        ReportedUsage {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            ..ReportedUsage::default()
        }
    }

    fn counts(tally: &Tally, estimates: &[[u64; 2]]) -> (u64, u64) {
        let usage = tally.usage(estimates.iter().copied());
        (usage.prompt_tokens, usage.completion_tokens)
    }

    #[test]
    fn what_is_not_reported_is_estimated_and_a_prompt_counts_once() {
        let mut tally = Tally::new([(10, 2), (20, 1)]);
        let estimates = [[1, 0], [2, 0], [3, 0]];
        assert_eq!(counts(&tally, &estimates), (30, 6));
        tally.note(1, &reported(100, 50));
        assert_eq!(counts(&tally, &estimates), (120, 54));
        tally.note(0, &reported(100, 40));
        tally.note(2, &ReportedUsage { completion_tokens: Some(7), ..ReportedUsage::default() });
        assert_eq!(counts(&tally, &estimates), (120, 97));
    }

    #[test]
    fn what_a_failed_run_has_reported_does_not_count_for_the_one_in_its_place() {
        let mut tally = Tally::new([(10, 1)]);
        tally.note(0, &reported(11, 3));
        tally.begin_further(0);
        assert_eq!(counts(&tally, &[[4, 0]]), (11, 4));
    }

    #[test]
    fn a_second_run_adds_its_prompt_once_it_has_been_started_and_its_text() {
        let mut tally = Tally::new([(10, 1)]);
        tally.note(0, &reported(11, 5));
        tally.prepare_second(0, 30);
        assert_eq!(counts(&tally, &[[4, 0]]), (11, 5));
        tally.begin_further(0);
        assert_eq!(counts(&tally, &[[4, 6]]), (41, 11));
        let details =
            ReportedUsage { cached_tokens: Some(9), reasoning_tokens: Some(3), ..reported(33, 8) };
        tally.note(0, &details);
        let usage = tally.usage([[4, 6]].into_iter());
        let expected = Usage {
            prompt_tokens: 44,
            cached_tokens: 9,
            completion_tokens: 13,
            reasoning_tokens: 3,
        };
        assert_eq!(usage, expected);
    }
}
