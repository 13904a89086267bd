//! The connector's group as lag tools see it: what it has noted down. Advice, never a truth.

use std::time::Duration;

use connector_api::offsets::OffsetCheckpoint;
use connector_api::{Error, Result};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::client::{Quiet, consumer_config};
use super::kafka::Prepared;
use super::rebalance::{ASK_TIMEOUT, notes};

/// How often the members are asked for while the coordinator is not ready,
const LIST_ATTEMPTS_MAX: u32 = 20;
/// and how long to wait in between.
const LIST_PAUSE: Duration = Duration::from_millis(500);

impl Prepared {
    /// Who is in the group, in words; `None` if nobody is, as far as it is listed: members by the
    /// newer protocol (KIP-848) may not be.
    ///
    /// Blocks until the brokers answer.
    pub fn group_members(&self) -> Result<Option<String>> {
        let group = &self.plan.group_id;
        let mut attempt = 1;
        let listed = loop {
            match self.consumer.fetch_group_list(Some(group), ASK_TIMEOUT) {
                Ok(listed) => break listed,
                // The coordinator has just changed, or reads in what it is to know.
                Err(KafkaError::GroupListFetch(
                    Code::CoordinatorLoadInProgress
                    | Code::CoordinatorNotAvailable
                    | Code::NotCoordinator,
                )) if attempt < LIST_ATTEMPTS_MAX => {
                    attempt += 1;
                    // Reports of the client wait there meanwhile.
                    drop(self.consumer.poll(LIST_PAUSE));
                }
                Err(error) => {
                    let doing = format!("the members of group `{group}` cannot be listed");
                    return Err(Error::external(doing).with_source(error));
                }
            }
        };
        let found = listed.groups().iter().find(|found| found.name() == group);
        Ok(found.filter(|found| !found.members().is_empty()).map(|found| {
            let members = found.members().iter();
            let members: Vec<String> =
                members.map(|m| format!("`{}` at {}", m.client_id(), m.client_host())).collect();
            let (count, plural) = (members.len(), if members.len() == 1 { "" } else { "s" });
            let state = found.state();
            format!(
                "group `{group}` is in state {state} with {count} member{plural} ({})",
                members.join(", ")
            )
        }))
    }

    /// Notes positions down for the group from outside. Refused while the group has members, by
    /// whatever protocol.
    ///
    /// Blocks until the brokers answer.
    /// With `is_probe` the notes say nothing to a run.
    pub fn note_group_offsets(&self, positions: &OffsetCheckpoint, is_probe: bool) -> Result<()> {
        let group = &self.plan.group_id;
        let failed = |e: KafkaError| match e.rdkafka_error_code() {
            Some(
                Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::RebalanceInProgress
                | Code::FencedMemberEpoch
                | Code::StaleMemberEpoch,
            ) => Error::external(format!(
                "it runs: group `{group}` has members, since it takes no offsets from outside ({e}). Stop its workers first"
            )),
            _ => Error::external(format!("group `{group}` takes no offsets")).with_source(e),
        };
        let list = notes(positions, self.clock.wall_ms(), is_probe).map_err(failed)?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(failed)
    }

    /// Deletes all that the group has noted down. False if there is no such group.
    ///
    /// Blocks until the brokers answer.
    pub fn delete_group(&self) -> Result<bool> {
        let group = self.plan.group_id.as_str();
        let failed = |e: KafkaError| {
            Error::external(format!("group `{group}` cannot be deleted")).with_source(e)
        };
        let admin: AdminClient<Quiet> =
            consumer_config(&self.plan).create_with_context(Quiet).map_err(failed)?;
        let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
        let answers = block_on(admin.delete_groups(&[group], &options)).map_err(failed)?;
        match answers.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, Code::GroupIdNotFound))) => Ok(false),
            Some(Err((_, code))) => Err(failed(KafkaError::AdminOp(code))),
            None => Err(Error::external(format!("nobody said whether group `{group}` is deleted"))),
        }
    }
}
