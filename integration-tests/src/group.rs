//! Who of a consumer group owns what: the broker's word for it, not the workers'.

use std::time::Duration;

use rdkafka::consumer::Consumer;

use crate::broker::Broker;
use crate::wait::eventually;

/// A member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The broker's name for it.
    pub id: String,
    /// What it was assigned.
    pub topic_partitions: Vec<(String, i32)>,
}

impl Broker {
    /// How the members of a group share their topics; none if the broker itself decides it (KIP-848).
    pub fn group_strategy(&self, group: &str) -> Option<String> {
        let groups = self.client().fetch_group_list(Some(group), Duration::from_secs(10)).ok()?;
        let strategy = groups.groups().first()?.protocol().to_owned();
        (!strategy.is_empty()).then_some(strategy)
    }

    /// All groups that the broker knows, also those without members.
    pub fn groups(&self) -> Vec<String> {
        let client = self.client();
        // The broker says no while it reads in what it knows of its groups.
        let groups = eventually(Duration::from_secs(30), "the broker lists its groups", || {
            client.fetch_group_list(None, Duration::from_secs(10)).ok()
        });
        groups.groups().iter().map(|group| group.name().to_owned()).collect()
    }

    /// The members of a group at rest; none while it rebalances, or where the broker itself decides who
    /// owns what: librdkafka can ask for groups of members that agree among themselves only.
    pub fn members(&self, group: &str) -> Vec<Member> {
        let groups = self.client().fetch_group_list(Some(group), Duration::from_secs(10));
        let Ok(groups) = groups else { return Vec::new() };
        groups
            .groups()
            .iter()
            .filter(|group| group.state() == "Stable")
            .flat_map(|group| group.members())
            .map(|member| Member {
                id: member.id().to_owned(),
                topic_partitions: assignment(member.assignment().unwrap_or_default())
                    .unwrap_or_default(),
            })
            .collect()
    }
}

/// Reads Kafka's `ConsumerProtocolAssignment`: a version, then topics, each with its partitions.
fn assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut rest = bytes.get(2..)?;
    let mut found = Vec::new();
    for _ in 0..int(&mut rest)? {
        let topic = string(&mut rest)?;
        for _ in 0..int(&mut rest)? {
            found.push((topic.clone(), int(&mut rest)?));
        }
    }
    Some(found)
}

fn int(rest: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

fn string(rest: &mut &[u8]) -> Option<String> {
    let length = i16::from_be_bytes(take(rest, 2)?.try_into().ok()?);
    String::from_utf8(take(rest, usize::try_from(length).ok()?)?.to_vec()).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::assignment;

    #[test]
    fn an_assignment_names_each_topic_partition() {
        let bytes = [
            &[0, 1][..],               // version
            &[0, 0, 0, 1],             // one topic
            &[0, 2, b'a', b'b'],       // its name
            &[0, 0, 0, 2],             // two partitions
            &[0, 0, 0, 0],             //
            &[0, 0, 0, 3],             //
            &[0xff, 0xff, 0xff, 0xff], // no user data
        ]
        .concat();
        assert_eq!(assignment(&bytes), Some(vec![("ab".to_owned(), 0), ("ab".to_owned(), 3)]));
    }

    #[test]
    fn a_cut_off_assignment_is_none() {
        assert_eq!(assignment(&[0, 1, 0, 0, 0, 1, 0]), None);
    }
}
