//! How often points are made: from the RPO and from what points really take.

use crate::api::application::{Basis, Objectives};

/// The shortest time from the start of one point to the start of the next, in seconds.
const SHORTEST: u64 = 5;
/// Fewer measurements than this are not a distribution.
const ENOUGH: usize = 3;

/// A rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From the start of one point to the start of the next, in seconds.
    pub interval: u64,
    /// What a point takes, in seconds.
    pub duration: u64,
    /// Whether the duration was measured.
    pub basis: Basis,
    /// Whether the objective can be kept at all: a point is as old as interval + duration when the next one counts.
    pub sufficient: bool,
}

/// `interval = rpo - p95(duration) - margin`, where the margin is a tenth of the RPO, at least two seconds.
///
/// `durations` are those of the last points, in seconds, in any order. With fewer than three of them the estimate is
/// a quarter of the RPO, at most a minute.
#[must_use]
pub fn rhythm(objectives: &Objectives, durations: &[u64]) -> Rhythm {
    let rpo = objectives.rpo.as_secs();
    let margin = (rpo / 10).max(2);
    let (duration, basis) = if durations.len() < ENOUGH {
        ((rpo / 4).min(60), Basis::Estimated)
    } else {
        (percentile_95(durations), Basis::Measured)
    };
    let left = rpo.saturating_sub(duration + margin);
    Rhythm { interval: left.max(SHORTEST), duration, basis, sufficient: left >= SHORTEST }
}

fn percentile_95(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 95).div_ceil(100).max(1);
    sorted[rank - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::span::Span;

    fn objectives(rpo: u64) -> Objectives {
        Objectives { rto: Span::from_secs(300), rpo: Span::from_secs(rpo), slo: None }
    }

    #[test]
    fn without_measurements_a_quarter_of_the_rpo_is_taken() {
        let it = rhythm(&objectives(3_600), &[5]);
        assert_eq!((it.duration, it.basis, it.interval), (60, Basis::Estimated, 3_600 - 60 - 360));
    }

    #[test]
    fn slower_points_tighten_the_interval() {
        assert_eq!(rhythm(&objectives(60), &[10; 20]).interval, 60 - 10 - 6);
        assert_eq!(rhythm(&objectives(60), &[30; 20]).interval, 60 - 30 - 6);
    }

    #[test]
    fn an_objective_that_cannot_be_kept_is_said_so() {
        let it = rhythm(&objectives(60), &[58; 20]);
        assert_eq!((it.sufficient, it.interval), (false, SHORTEST));
    }

    #[test]
    fn one_slow_point_of_twenty_does_not_decide() {
        let mut durations = vec![10; 19];
        durations.push(50);
        assert_eq!(rhythm(&objectives(60), &durations).duration, 10);
    }
}
