//! Whose turn it is: pure arithmetic on what is known of the sessions, so that it can be tested in virtual time.
//!
//! Each session that wants to be computed has a *rank*, and after every layer of a pass the one of the highest rank goes on.
//! A rank is the sum of
//!
//! - its class: background 0, normal 1, interactive 2;
//! - half a class if its user is looking at it;
//! - up to three quarters of a class as the moment nears at which its first token is wanted: so a new question goes before the
//!   rest of a long answer;
//! - a class for every [`PolicyOptions::ageing`] that it has waited: so whoever waits comes first in the end, whatever its
//!   class. Its wait is over once it has had the machine for [`PolicyOptions::longest_wait`], so what it gets of a busy
//!   machine then is a slice, not the rest of its work.
//!
//! Among sessions of one rank the one that waited longest is first, which makes them take turns.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;

/// How soon a request's answer is needed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Whenever nobody else needs the machine: nightly jobs, indexing.
    Background,
    /// Somebody will look for it later.
    #[default]
    Normal,
    /// Somebody is waiting for it.
    Interactive,
}

impl Class {
    /// All classes, the least urgent first.
    pub const ALL: [Class; 3] = [Class::Background, Class::Normal, Class::Interactive];

    /// The name in requests and figures.
    pub fn name(self) -> &'static str {
        match self {
            Class::Background => "background",
            Class::Normal => "normal",
            Class::Interactive => "interactive",
        }
    }

    /// How soon the first token is wanted where the request does not say.
    fn patience(self) -> Option<Duration> {
        match self {
            Class::Interactive => Some(Duration::ZERO),
            Class::Normal => Some(Duration::from_secs(5)),
            Class::Background => None,
        }
    }

    /// The share of the machine that a session gets beside those of other classes where shares are fair.
    fn weight(self) -> f64 {
        match self {
            Class::Interactive => 4.0,
            Class::Normal => 2.0,
            Class::Background => 1.0,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Class {
    type Err = Error;

    fn from_str(name: &str) -> Result<Class, Error> {
        Class::ALL.into_iter().find(|class| class.name() == name).ok_or_else(|| Error::UnknownName {
            what: "priority",
            got: name.to_owned(),
            expected: "interactive, normal or background",
        })
    }
}

/// By what sessions are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// By urgency, which changes with time: see the module's words.
    #[default]
    Urgency,
    /// By the time that each has had, weighed by class: shares of the machine, to compare with. Nobody is pre-empted
    /// by a newcomer; everybody gets on slowly.
    Fair,
}

/// How the policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    /// By urgency or in fair shares.
    pub sharing: Sharing,
    /// What a newcomer of higher rank waits at most until whoever has the machine leaves it, as far as one layer of a pass can
    /// be made that short.
    pub longest_wait: Duration,
    /// The wait that is worth a class.
    pub ageing: Duration,
}

impl Default for PolicyOptions {
    fn default() -> PolicyOptions {
        PolicyOptions {
            sharing: Sharing::Urgency,
            longest_wait: Duration::from_millis(30),
            ageing: Duration::from_secs(2),
        }
    }
}

/// What the policy knows of a session. Times count from one fixed moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    /// Its class.
    pub class: Class,
    /// Whether its user looks at it.
    pub focused: bool,
    /// When its first token is wanted; `None` if it has it, or is in no hurry.
    pub deadline: Option<Duration>,
    /// Since when it waits for the machine.
    pub waiting_since: Duration,
    /// How long it has had the machine.
    pub used: Duration,
}

impl Claim {
    /// The claim of a request that comes `now`. `deadline` is how soon it wants its first token; the class says if `None`.
    pub fn new(class: Class, deadline: Option<Duration>, now: Duration) -> Claim {
        let deadline = deadline.or(class.patience()).map(|patience| now.saturating_add(patience));
        Claim { class, focused: false, deadline, waiting_since: now, used: Duration::ZERO }
    }

    /// Whether sessions with these claims may be computed in one pass. Interactive ones keep to themselves: each other
    /// session makes the pass a little longer, which nobody pays who is being waited for.
    pub fn joins(&self, leader: &Claim) -> bool {
        (self.class == Class::Interactive) == (leader.class == Class::Interactive)
    }
}

/// What half a class is for those that are looked at, and most of a class for those about to miss their deadline.
const FOCUS: f64 = 0.5;
const DEADLINE: f64 = 0.75;

/// A deadline begins to count so long before it.
const HORIZON: Duration = Duration::from_secs(2);

/// Whoever has the machine keeps it unless another's rank is higher by this: peers take turns of some length.
const MARGIN: f64 = 0.1;

/// The same for fair shares, in seconds of machine time.
const FAIR_MARGIN: f64 = 0.03;

/// Ranks sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    options: PolicyOptions,
}

impl Policy {
    /// A policy with these options.
    pub fn new(options: PolicyOptions) -> Policy {
        Policy { options }
    }

    /// Its options.
    pub fn options(&self) -> &PolicyOptions {
        &self.options
    }

    /// How urgent a claim is `now`; the highest goes first.
    pub fn rank(&self, now: Duration, claim: &Claim) -> f64 {
        if self.options.sharing == Sharing::Fair {
            return -claim.used.as_secs_f64() / claim.class.weight();
        }
        let class = claim.class as u8 as f64;
        let focus = if claim.focused { FOCUS } else { 0.0 };
        let nearness = claim.deadline.map_or(0.0, |deadline| {
            1.0 - (deadline.saturating_sub(now).as_secs_f64() / HORIZON.as_secs_f64()).min(1.0)
        });
        let waited = now.saturating_sub(claim.waiting_since).as_secs_f64();
        class + focus + DEADLINE * nearness + waited / self.options.ageing.as_secs_f64()
    }

    /// Brings in a claim beside `others`: where shares are fair, whoever comes late has no share of the past to catch up on.
    pub fn enter<'a>(&self, claim: &mut Claim, others: impl Iterator<Item = &'a Claim>) {
        let had = |claim: &Claim| claim.used.as_secs_f64() / claim.class.weight();
        if let Some(least) = others.map(had).reduce(f64::min) {
            claim.used = claim.used.max(Duration::from_secs_f64(least * claim.class.weight()));
        }
    }

    /// Whether whoever has the machine, of rank `holder`, must leave it to one of rank `other`.
    pub fn preempts(&self, other: f64, holder: f64) -> bool {
        let margin = match self.options.sharing {
            Sharing::Urgency => MARGIN,
            Sharing::Fair => FAIR_MARGIN,
        };
        other > holder + margin
    }

    /// Tokens of a prompt that one pass takes so that no layer of it lasts longer than a newcomer is to wait: at most `batch`,
    /// at least 16, below which each pass would mostly read weights. `token_layer` is what a token's layer took lately.
    pub fn chunk(&self, batch: usize, token_layer: Duration) -> usize {
        let fit = self.options.longest_wait.as_secs_f64() / token_layer.as_secs_f64().max(1e-9);
        // Whole tiles of the products: 16 rows.
        (fit as usize / 16 * 16).clamp(16.min(batch), batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rank(now: u64, claim: &Claim) -> f64 {
        Policy::default().rank(SECOND * now as u32, claim)
    }

    #[test]
    fn a_question_goes_before_answers_and_answers_before_work() {
        let question = Claim::new(Class::Interactive, None, SECOND * 10);
        let answer = Claim { deadline: None, ..question };
        let looked_at = Claim { focused: true, ..answer };
        let normal = Claim::new(Class::Normal, None, SECOND * 10);
        let urgent = Claim::new(Class::Normal, Some(Duration::ZERO), SECOND * 10);
        let background = Claim::new(Class::Background, None, SECOND * 10);
        let order = [question, looked_at, answer, urgent, normal, background].map(|claim| rank(10, &claim));
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
    }

    #[test]
    fn who_waits_long_enough_comes_first() {
        let waiting = Claim::new(Class::Background, None, SECOND);
        let question =
            |now: u64| Claim { focused: true, ..Claim::new(Class::Interactive, None, SECOND * now as u32) };
        assert!(rank(2, &waiting) < rank(2, &question(2)));
        assert!(rank(9, &waiting) > rank(9, &question(9)));
    }

    #[test]
    fn chunks_follow_the_speed() {
        let policy = Policy::default();
        assert_eq!(policy.chunk(256, Duration::from_micros(50)), 256);
        assert_eq!(policy.chunk(256, Duration::from_micros(400)), 64);
        assert_eq!(policy.chunk(256, Duration::from_millis(50)), 16);
        assert_eq!(policy.chunk(8, Duration::from_millis(50)), 8);
        assert_eq!(policy.chunk(256, Duration::ZERO), 256);
    }

    #[test]
    fn names_are_read_back() {
        for class in Class::ALL {
            assert_eq!(class.name().parse::<Class>().unwrap(), class);
        }
        let message = "urgent".parse::<Class>().unwrap_err().to_string();
        assert!(message.contains("interactive"), "{message}");
    }
}
