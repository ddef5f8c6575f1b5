//! All rules that have a switch, and the switch. `gate` makes a test of each, so that none is forgotten.

use std::cell::Cell;

/// Hands the list of all rules to a macro: the rule, its test, the world that misses it, and the kinds of mishaps there
/// that it takes.
macro_rules! every_rule {
    ($to:ident) => {
        $to! {
            StrictHolderFences, a_strict_holder_that_cannot_renew_fences, strict cuts;
            FencingIsFinal, an_answer_after_the_deadline_does_not_undo_the_fencing, strict cuts messages;
            FencedRenewsNoMore, a_fenced_holder_renews_no_more, strict cuts;
            RestartedFencesInTime, a_restarted_holder_fences_before_anybody_else_may_serve, strict cuts restarts;
            ValidFromSending, a_renewal_is_valid_from_when_it_was_sent, strict cuts messages;
            OnlyWhatLandedCounts, a_renewal_counts_once_it_is_known_to_have_landed, strict cuts;
            OwnVersionByItsNonce, an_own_version_is_recognised_by_its_nonce, strict messages cuts;
            OpenOutcomeIsReadBack, an_open_outcome_is_read_back_before_the_next_write, strict messages cuts;
            OneRequestAtATime, one_request_is_under_way_at_a_time, strict messages;
            WrittenDownBeforeItIsSent, what_a_holder_sends_is_written_down_first, strict cuts restarts;
            JournalProvesWhatLanded, the_journal_proves_only_what_landed, strict cuts restarts;
            StandbyWaits, a_standby_waits_for_wait, strict;
            NewVersionEndsTheSilence, a_new_version_ends_the_silence, strict;
            FirstRegionBegins, only_the_first_region_makes_a_claim_at_once, strict;
            ValidityEnds, a_validity_ends_at_hold, advisory crashes;
            SeizureInTheJournalProvesNothing, a_seizure_in_the_journal_proves_nothing, advisory losses crashes;
            OnlyTheFencedTakeAnew, a_holder_takes_its_own_claim_anew_only_when_it_fenced, advisory losses messages;
            UnprovenIsExpired, a_claim_without_proof_is_expired, forgetful forgets cuts;
            UnprovenFences, a_strict_holder_without_any_proof_fences, forgetful forgets cuts;
            OtherBootsProveNothing, times_of_another_boot_prove_nothing, moved moves cuts clocks;
            HolderTakesTheLargerClock, a_holder_takes_the_larger_of_its_clocks, clocks cuts clocks;
            StandbyTakesTheSmallerClock, a_standby_takes_the_smaller_of_its_clocks, clocks cuts clocks;
            ShortestHoldCounts, the_shortest_hold_that_may_stand_counts, told cuts messages settings;
            LongerWaitCounts, the_longer_wait_counts, told cuts settings;
            OutageIsNoSilence, an_outage_of_the_vault_is_no_silence_of_the_holder, outage outages;
            OnlyCandidatesTake, only_a_candidate_takes_the_claim, bystander cuts;
            ReleasedForOneIsForNobodyElse, what_is_released_for_one_is_for_nobody_else, handover asks messages;
            ReleaseEndsTheValidity, a_release_ends_the_validity_when_it_is_sent, handover asks messages;
            ReleaseOutlastsARestart, a_release_ends_the_validity_after_a_restart_too, handover asks restarts;
            AbsentClaimIsRemembered, an_absent_claim_that_is_remembered_is_a_conflict, rollback rollbacks;
            EpochNeverFalls, an_epoch_that_fell_is_a_conflict, reset rollbacks losses;
            SeqNeverFalls, a_seq_that_fell_is_a_conflict, rollback rollbacks;
            OneVersionForEachSeq, two_versions_of_one_seq_are_a_conflict, rollback rollbacks;
            EvidenceCounts, evidence_from_elsewhere_counts, rollback rollbacks restarts;
            EvidenceFirst, no_claim_is_made_before_evidence_was_looked_for, rollback rollbacks restarts;
            ConflictWritesNothing, a_region_in_conflict_writes_nothing, rollback rollbacks restarts;
            ConflictIsNotActedOn, a_claim_in_conflict_is_not_acted_on, rollback rollbacks;
            OnlyPointsOfTheSealEnter, only_points_of_the_seals_epoch_enter, changes cuts changes;
            NewerMarkStands, what_bears_a_newer_mark_is_not_replaced, changes cuts changes;
        }
    };
}
pub(crate) use every_rule;

macro_rules! define {
    ($($rule:ident, $test:ident, $world:ident $($fault:ident)*;)*) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Rule { $(#[doc = stringify!($test)] $rule,)* }
    };
}
every_rule!(define);

thread_local! {
    static OFF: Cell<Option<Rule>> = const { Cell::new(None) };
}

/// Whether this rule is switched off in this thread.
pub(crate) fn off(rule: Rule) -> bool {
    OFF.get() == Some(rule)
}

/// Does something without a rule, in this thread.
pub(crate) fn without<T>(rule: Option<Rule>, what: impl FnOnce() -> T) -> T {
    let before = OFF.replace(rule);
    let done = what();
    OFF.set(before);
    done
}
