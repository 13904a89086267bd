//! A member of the group: what librdkafka and its polling thread do for one connector.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use connector_api::clock::Clock;
use connector_api::ids::TopicPartition;
use connector_api::offsets::OffsetCheckpoint;
use connector_api::record::RawRecordsBuilder;
use connector_api::{Error, Result};
use connector_runtime::config::ConnectorPlan;
use connector_runtime::memory::MemoryShare;
use connector_runtime::source::{
    ByteGauge, Cluster, Command, Connected, Noted, Source, SourceBatch, SourceEvent, Start,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::World;
use crate::broker::{Broker, Entry, SESSION_TIMEOUT, at, topic_partition};
use crate::fences::Fences;
use crate::process::Inside;

/// Between two turns of the polling thread.
const TURN: Duration = Duration::from_millis(100);
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How long the pipeline may take to answer an assignment.
const ASSIGN_TIMEOUT: Duration = Duration::from_secs(120);
/// Records of one batch.
const BATCH: usize = 40;

/// The brokers, as one process reaches them.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) world: World,
    pub(crate) broker: Broker,
    pub(crate) inside: Inside,
    pub(crate) worker: u64,
    pub(crate) fences: Fences,
}

#[async_trait]
impl Cluster for Connection {
    async fn connect(
        &self,
        plan: &Arc<ConnectorPlan>,
        clock: Arc<dyn Clock>,
        memory: &MemoryShare,
    ) -> Result<Connected> {
        sleep(Duration::from_millis(self.world.between(1, 50))).await;
        let topics = self.broker.topics()?;
        let (connection, revoke_timeout) = (self.clone(), plan.write.revoke_timeout);
        let gauge = ByteGauge::new(memory);
        Ok(Connected {
            topics,
            witness: Arc::new(self.broker.clone()),
            join: Box::new(move || Ok(connection.join(clock, revoke_timeout, gauge))),
        })
    }
}

impl Connection {
    fn join(self, clock: Arc<dyn Clock>, revoke_timeout: Duration, gauge: ByteGauge) -> Source {
        let (event_sender, events) = mpsc::channel(16);
        let (batch_sender, batches) = mpsc::channel(8);
        let (commands, command_receiver) = mpsc::channel(64);
        let member = Member {
            world: self.world,
            broker: self.broker,
            worker: self.worker,
            fences: self.fences,
            clock,
            revoke_timeout,
            events: event_sender,
            batches: batch_sender,
            commands: command_receiver,
            id: None,
            generation: 0,
            heartbeat: Instant::now(),
            heard: Instant::now(),
            owned: BTreeMap::new(),
            gauge,
        };
        self.inside.start(member.run());
        Source { batches, events, commands, thread: None }
    }
}

struct Owned {
    epoch: u64,
    position: usize,
    topic_partition: TopicPartition,
    records: RawRecordsBuilder,
}

struct Member {
    world: World,
    broker: Broker,
    worker: u64,
    fences: Fences,
    clock: Arc<dyn Clock>,
    revoke_timeout: Duration,
    events: mpsc::Sender<SourceEvent>,
    batches: mpsc::Sender<SourceBatch>,
    commands: mpsc::Receiver<Command>,
    /// What the coordinator calls us.
    id: Option<u64>,
    generation: u64,
    heartbeat: Instant,
    /// When the coordinator answered last.
    heard: Instant,
    owned: BTreeMap<i32, Owned>,
    gauge: ByteGauge,
}

impl Member {
    async fn run(mut self) {
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Leave) | Err(mpsc::error::TryRecvError::Disconnected) => {
                        return self.leave().await;
                    }
                    Ok(command) => self.obey(command),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                }
            }
            if self.is_heartbeat_due()
                && let Err(error) = self.coordinate().await
            {
                self.send(SourceEvent::Failed(error)).await;
            }
            self.fetch();
            sleep(TURN).await;
        }
    }

    /// After a freeze it takes a while until the next one shows what has changed meanwhile.
    fn is_heartbeat_due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.heartbeat {
            return false;
        }
        let froze = now > self.heartbeat + HEARTBEAT;
        let within = HEARTBEAT.as_millis() as u64;
        self.heartbeat = now + Duration::from_millis(self.world.between(within / 3, within));
        !froze
    }

    async fn send(&self, event: SourceEvent) {
        // A pipeline that is gone asks for nothing.
        drop(self.events.send(event).await);
    }

    // ---- the group ---------------------------------------------------------------------------

    async fn coordinate(&mut self) -> Result<()> {
        let Some(id) = self.id else {
            // Nothing is owned, and there is nothing to lose by waiting.
            self.id = self.broker.group(|group, partitions| group.join(partitions)).ok();
            self.heard = Instant::now();
            return Ok(());
        };
        let Ok(assignment) = self.broker.group(|group, _| group.heartbeat(id)) else {
            // Who hears nothing for as long as the coordinator would wait gives up by himself.
            if self.heard.elapsed() > SESSION_TIMEOUT {
                self.id = None;
                let all = self.owned.keys().copied().collect();
                self.revoke(all, true).await;
            }
            return Ok(());
        };
        self.heard = Instant::now();
        let Some(assignment) = assignment else {
            // Taken out of the group. librdkafka does not always say that all is lost.
            self.id = None;
            let lost = !self.world.chance(200);
            let all = self.owned.keys().copied().collect();
            self.revoke(all, lost).await;
            return Ok(());
        };
        if assignment.generation != self.generation {
            let moves = |eager: bool| -> BTreeSet<i32> {
                let owned = self.owned.keys().copied();
                owned.filter(|one| eager || !assignment.target.contains(one)).collect()
            };
            let Ok(eager) = self.broker.group(|group, _| group.eager) else { return Ok(()) };
            self.revoke(moves(eager), false).await;
            let (generation, keeps) = (assignment.generation, self.owned.keys().copied().collect());
            if self.broker.group(|group, _| group.rejoin(id, &keeps, generation)).is_err() {
                return Ok(());
            }
            self.generation = generation;
        }
        let generation = self.generation;
        let taken = self.broker.group(|group, _| group.take(id, generation)).unwrap_or_default();
        self.assign(taken).await
    }

    async fn assign(&mut self, taken: BTreeSet<i32>) -> Result<()> {
        let new: Vec<i32> = taken.into_iter().filter(|one| !self.owned.contains_key(one)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let partitions = self.broker.describe(&new)?;
        self.fences.given(self.worker, new.into_iter());
        let (reply, answer) = sync_channel(1);
        self.send(SourceEvent::Assigned { partitions, reply }).await;
        match self.wait(answer, ASSIGN_TIMEOUT).await {
            Some(starts) => {
                self.owned.extend(starts.iter().map(|start| {
                    (
                        start.topic_partition.partition,
                        Owned {
                            epoch: start.epoch,
                            position: start.offset.get() as usize,
                            topic_partition: start.topic_partition.clone(),
                            records: builder(start),
                        },
                    )
                }));
                Ok(())
            }
            None => Err(Error::external("the topic partitions were not accepted")),
        }
    }

    async fn revoke(&mut self, gone: BTreeSet<i32>, lost: bool) {
        let gone: Vec<Owned> = gone.iter().filter_map(|one| self.owned.remove(one)).collect();
        if gone.is_empty() {
            return;
        }
        let partitions: Vec<TopicPartition> =
            gone.into_iter().map(|owned| owned.topic_partition).collect();
        let back: Vec<i32> = partitions.iter().map(|one| one.partition).collect();
        let (reply, answer) = sync_channel(1);
        self.send(SourceEvent::Revoked { partitions, lost, reply }).await;
        let positions = self.wait(answer, self.revoke_timeout * 2).await;
        if let Some(positions) = positions.filter(|_| !lost) {
            self.fences.handed_back(self.worker, back.into_iter());
            self.note(&positions);
        }
    }

    /// Waits for an answer of the pipeline, while heartbeats go on. `None` if none comes.
    async fn wait<T>(&mut self, answer: Receiver<T>, timeout: Duration) -> Option<T> {
        let give_up = Instant::now() + timeout;
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if Instant::now() >= give_up => return None,
                Err(TryRecvError::Empty) => sleep(TURN / 4).await,
            }
            if self.is_heartbeat_due()
                && let Some(id) = self.id
            {
                // What it says is heard after the callback.
                drop(self.broker.group(|group, _| group.heartbeat(id)));
            }
        }
    }

    fn note(&self, positions: &OffsetCheckpoint) {
        let Some(id) = self.id else { return };
        let wall_ms = Some(self.clock.wall_ms());
        for (topic_partition, next) in positions.iter() {
            let noted = Noted { next, wall_ms };
            let partition = topic_partition.partition;
            drop(self.broker.group(|group, _| group.note(id, partition, noted)));
        }
    }

    async fn leave(mut self) {
        let all = self.owned.keys().copied().collect();
        self.revoke(all, false).await;
        if let Some(id) = self.id {
            drop(self.broker.group(|group, partitions| group.leave(id, partitions)));
        }
        self.send(SourceEvent::Closed).await;
    }

    // ---- records -----------------------------------------------------------------------------

    fn obey(&mut self, command: Command) {
        match command {
            Command::Seek(starts) => {
                for start in starts {
                    let Some(owned) = self.owned.get_mut(&start.topic_partition.partition) else {
                        continue;
                    };
                    if start.epoch >= owned.epoch {
                        owned.epoch = start.epoch;
                        owned.position = start.offset.get() as usize;
                        owned.records = builder(&start);
                    }
                }
            }
            Command::NoteGroupOffsets(positions) => self.note(&positions),
            Command::Leave => {}
        }
    }

    fn fetch(&mut self) {
        for (partition, owned) in &mut self.owned {
            let found = self.broker.fetch(*partition as usize, owned.position, BATCH);
            for (offset, entry) in found {
                owned.position = offset + 1;
                let value = entry.value();
                let timestamp_ms = crate::time::EPOCH_MS + offset as i64;
                let value = value.as_deref().map(str::as_bytes);
                if owned.records.push(at(offset), timestamp_ms, value) {
                    owned.records.envelope(None, Vec::new());
                }
                debug_assert_ne!(entry, Entry::Hidden);
            }
            if owned.records.is_empty() {
                continue;
            }
            // Full, or nobody takes them any more: they stay here, and the next ones in the log.
            let Ok(room) = self.batches.try_reserve() else { continue };
            let held = self.gauge.hold(owned.records.bytes());
            room.send(SourceBatch { records: owned.records.take(), epoch: owned.epoch, held });
        }
    }
}

fn builder(start: &Start) -> RawRecordsBuilder {
    debug_assert_eq!(start.topic_partition, topic_partition(start.topic_partition.partition));
    RawRecordsBuilder::new(start.topic_partition.clone(), start.offset).with_envelopes()
}

#[cfg(test)]
mod tests {
    use connector_runtime::source::AssignedPartition;

    use super::*;
    use crate::process::Process;
    use crate::scenario::in_virtual_time;
    use crate::time::VirtualClock;

    const SECOND: Duration = Duration::from_secs(1);

    /// A member without a pipeline, in a process of its own.
    fn join(world: &World, broker: &Broker) -> Source {
        let inside = Inside::default();
        let (world, broker, fences) = (world.clone(), broker.clone(), Fences::default());
        let connection = Connection { world, broker, inside: inside.clone(), worker: 1, fences };
        let source = connection.join(
            Arc::new(VirtualClock::start()),
            SECOND,
            ByteGauge::new(&MemoryShare::alone()),
        );
        tokio::spawn(Process::new(inside, std::future::pending()));
        source
    }

    /// Takes what a member is given next, from its beginning.
    async fn take(source: &mut Source) -> Vec<i32> {
        match source.events.recv().await {
            Some(SourceEvent::Assigned { partitions, reply }) => {
                let start = |one: AssignedPartition| Start {
                    topic_partition: one.topic_partition,
                    offset: at(0),
                    epoch: 1,
                };
                let given = partitions.iter().map(|one| one.topic_partition.partition).collect();
                reply.send(partitions.into_iter().map(start).collect()).unwrap();
                given
            }
            other => panic!("nothing is given: {other:?}"),
        }
    }

    #[test]
    fn what_is_handed_back_while_no_broker_answers_is_free_once_one_does() {
        in_virtual_time(async {
            let world = World::new(1);
            world.calm();
            let broker = Broker::new(2, false);
            let mut one = join(&world, &broker);
            assert_eq!(take(&mut one).await, [0, 1]);
            let mut other = join(&world, &broker);
            let Some(SourceEvent::Revoked { partitions, reply, .. }) = one.events.recv().await
            else {
                panic!("nothing is handed back");
            };
            assert_eq!(partitions, [topic_partition(1)]);
            broker.go_away(5 * SECOND);
            reply.send(OffsetCheckpoint::default()).unwrap();
            let given = tokio::time::timeout(60 * SECOND, take(&mut other)).await;
            assert_eq!(given.expect("it stays with who does not read it"), [1]);
        });
    }
}
