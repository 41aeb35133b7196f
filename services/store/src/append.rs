//! The statements by which lanes append messages.

use crate::{Error, Result};

/// Appends messages in the order given, to channels that are each looked up once.
///
/// The caller holds the locks of their slots: that makes commit order equal ID order, which every
/// cursor depends on (guarantee G2), and lets the newest row of a channel tell its next `seq`.
/// `known_id` is the ID of any message of the channel's, or 0: the search for the newest row ends
/// there, where it would otherwise read a whole page of the index. A channel of the same name
/// that was opened since has greater IDs only, so an old `known_id` is as good.
///
/// Everything is looked up by itself (`limit 1` keeps the planner from joining whole tables), and
/// IDs are drawn from rows already in order.
///
/// Here and below, `coalesce(deleted_id, 0) = 0` says that a message stands without offering the
/// planner the partial indexes: on a table that was empty a moment ago they look as good as the
/// primary key, and would be walked in whole once it has grown.
pub(crate) const EACH: &str = "
    with heads as materialized (
        select array_agg(coalesce(channel.id, 0) order by ord) as channel_ids,
            array_agg(coalesce(newest.seq, 0) order by ord) as seqs
        from unnest($1::bigint[], $3::text[], $4::bigint[]) with ordinality
            as wanted (team_id, name, known_id, ord)
        left join lateral (
            select c.id
            from channels c
            where c.team_id = wanted.team_id and c.name = wanted.name and c.deleted_id is null
            limit 1
        ) channel on true
        left join lateral (
            select m.seq
            from messages m
            where m.team_id = wanted.team_id and m.channel_id = channel.id
                and m.id >= wanted.known_id
            order by m.id desc
            limit 1
        ) newest on true
    ),
    drawn as materialized (
        select numbered.*,
            case when outcome = 0 then nextval(($2::oid[])[place]::regclass) end as id,
            clock_timestamp() as created_at
        from (
            select decided.*,
                newest_seq + row_number() over (partition by place, outcome order by ord) as seq
            from (
                select post.*,
                    earlier.message_id as earlier_id, earlier.seq as earlier_seq,
                    earlier.created_at as earlier_at, earlier.reply_count as earlier_replies,
                    earlier.traceparent as earlier_traceparent,
                    case
                        when earlier.message_id is not null and retried.same_body then 3
                        when earlier.message_id is not null then 4
                        -- Not 1: a reply that is refused must not open its channel.
                        when channel_id = 0 and thread_id is not null then 2
                        when channel_id = 0 then 1
                        when thread_id is not null and parent.id is null then 2
                        else 0
                    end::smallint as outcome
                from (
                    select input.*, ($1::bigint[])[place] as team_id,
                        heads.channel_ids[place] as channel_id, heads.seqs[place] as newest_seq
                    from unnest($5::int[], $6::text[], $7::text[], $8::text[], $9::bigint[],
                            $10::uuid[], $11::uuid[], $12::bytea[])
                        with ordinality as input (place, sender, content, mention, thread_id,
                            digest, body_digest, traceparent, ord)
                    cross join heads
                ) post
                left join lateral (
                    select m.id
                    from messages m
                    where m.team_id = post.team_id and m.channel_id = post.channel_id
                        and m.id = post.thread_id and coalesce(m.deleted_id, 0) = 0
                    limit 1
                ) parent on true
                left join lateral (
                    select i.channel_id as in_channel, i.message_id,
                        i.body_digest = post.body_digest as same_body
                    from idempotency_keys i
                    where i.team_id = post.team_id and i.digest = post.digest
                    limit 1
                ) retried on true
                left join lateral (
                    select m.id as message_id, m.seq, m.created_at, m.reply_count, m.traceparent
                    from messages m
                    where m.team_id = post.team_id and m.channel_id = retried.in_channel
                        and m.id = retried.message_id
                    limit 1
                ) earlier on true
            ) decided
            order by ord
        ) numbered
    ),
    appended as (
        insert into messages
            (team_id, channel_id, id, seq, thread_id, created_at, sender, mention, content,
                traceparent)
        select team_id, channel_id, id, seq, thread_id, created_at, sender, mention, content,
            traceparent
        from drawn
        where outcome = 0
    ),
    mentioned as (
        insert into mentions (team_id, name, channel_id, id)
        select team_id, mention, channel_id, id
        from drawn
        where outcome = 0 and mention is not null
    ),
    remembered as (
        insert into idempotency_keys
            (team_id, digest, body_digest, channel_id, message_id, created_at)
        select team_id, digest, body_digest, channel_id, id, created_at
        from drawn
        where outcome = 0 and digest is not null
        -- One that stands here names a message that was removed with its channel.
        on conflict (team_id, digest) do update
        set body_digest = excluded.body_digest, channel_id = excluded.channel_id,
            message_id = excluded.message_id, created_at = excluded.created_at
    ),
    counted as (
        update messages parent
        set reply_count = parent.reply_count + replies.count
        from (
            select team_id, channel_id, thread_id, count(*) as count
            from drawn
            where outcome = 0 and thread_id is not null
            group by team_id, channel_id, thread_id
        ) replies
        where parent.team_id = replies.team_id and parent.channel_id = replies.channel_id
            and parent.id = replies.thread_id
    )
    select ord, outcome, channel_id,
        case when outcome = 0 then id else earlier_id end as id,
        case when outcome = 0 then seq else earlier_seq end as seq,
        case when outcome = 0 then created_at else earlier_at end as created_at,
        earlier_replies as reply_count, earlier_traceparent as traceparent
    from drawn";

/// Appends a batch of messages, all of them or none: the cheaper way, for posts of which nothing
/// is to be refused. Where a channel or a parent is missing, or an idempotency key was used
/// before, it fails on a constraint, and nothing was drawn. Then [`EACH`] tells which it was.
///
/// The caller holds the locks of their slots, as for [`EACH`], and has counted: which of the
/// slot's messages in this batch a message is, and which of its channel's, each from 1. So IDs
/// are counted on from what the slot's sequence gave last. The sequence follows at the end, when
/// everything is written.
///
/// Where the sequence still stands at the caller's `known_last_id`, nobody else has written to the
/// slot since: then a channel's ID and newest `seq` are as the caller knows them, and only where
/// they are null they are looked up.
///
/// One row comes back, with what the caller needs to know all IDs and `seq`s.
pub(crate) fn all(parts: Parts) -> String {
    let mut channel_id = "channel_ids[place]".to_owned();
    if parts.replies {
        channel_id = channel_of_reply("($1::bigint[])[place]", "channel_ids[place]");
    }
    let (more, written) = more(parts, "drawn");
    format!(
        "
    with slots as materialized (
        select array_agg(last_id order by ord) as last_ids,
            array_agg(last_id = known_last_id order by ord) as undisturbed
        from (
            select ord, known_last_id,
                coalesce(pg_sequence_last_value(sequence::regclass), 0) as last_id
            from unnest($7::oid[], $8::bigint[]) with ordinality
                as slot (sequence, known_last_id, ord)
        ) slot
    ),
    heads as materialized (
        select array_agg(coalesce(channel.id, known_channel_id) order by ord) as channel_ids,
            array_agg(coalesce(newest.seq, known_seq, 0) order by ord) as seqs,
            clock_timestamp() as created_at
        from (
            select ord, team_id, name, known_id,
                case when undisturbed[slot] then known_channel_id end as known_channel_id,
                case when undisturbed[slot] then known_seq end as known_seq
            from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                    $6::int[])
                with ordinality
                as channel (team_id, name, known_id, known_channel_id, known_seq, slot, ord)
            cross join slots
            offset 0
        ) wanted
        left join lateral (
            select c.id
            from channels c
            where wanted.known_channel_id is null
                and c.team_id = wanted.team_id and c.name = wanted.name and c.deleted_id is null
            limit 1
        ) channel on true
        left join lateral (
            select m.seq
            from messages m
            where wanted.known_channel_id is null
                and m.team_id = wanted.team_id and m.channel_id = channel.id
                and m.id >= wanted.known_id
            order by m.id desc
            limit 1
        ) newest on true
    ),
    drawn as materialized (
        select ($1::bigint[])[place] as team_id,
            -- Null, which the table refuses, where the channel or the parent doesn't stand.
            {channel_id} as channel_id,
            last_ids[slot] + nth_in_slot as id, seqs[place] + nth_in_channel as seq, created_at,
            input.*
        from unnest($10::int[], $11::int[], $12::int[], $13::int[], $14::text[], $15::text[],
                $16::text[], $17::bigint[], $18::uuid[], $19::uuid[], $20::bytea[])
            as input (place, slot, nth_in_slot, nth_in_channel, sender, content, mention, thread_id,
                digest, body_digest, traceparent)
        cross join heads
        cross join slots
    ),
    appended as (
        insert into messages
            (team_id, channel_id, id, seq, thread_id, created_at, sender, mention, content,
                traceparent)
        select team_id, channel_id, id, seq, thread_id, created_at, sender, mention, content,
            traceparent
        from drawn
        returning 1
    ),
    remembered as (
        insert into idempotency_keys
            (team_id, digest, body_digest, channel_id, message_id, created_at)
        select team_id, digest, body_digest, channel_id, id, created_at
        from drawn
        where digest is not null
        returning 1
    ){more}
    select channel_ids, seqs, last_ids, created_at,
        (
            select count(setval(sequence::regclass, last_ids[ord] + messages))
            from unnest($7::oid[], $9::int[]) with ordinality as slot (sequence, messages, ord)
        ) as sequences_set
    from heads
    cross join slots
    where {appended} and {remembered}{written}",
        appended = is_written("appended"),
        remembered = is_written("remembered"),
    )
}

/// Appends messages of which the caller knows all but the time, all or none, by a transaction of
/// its own: for one who was alone in their slots for a while.
///
/// It takes the locks itself, of slots that are given in ascending order. Its snapshot is older than
/// its wait for them, so it fails where anybody else has written to one of the slots since the
/// caller's `known_last_id`: then what the snapshot shows of them is what stands, and what the caller
/// knows. Otherwise it fails as [`all`] does.
///
/// A row of each slot comes back, with the time, which is the same in all.
pub(crate) fn alone(parts: Parts) -> String {
    let mut channel_id = "channel_id".to_owned();
    if parts.replies {
        channel_id = channel_of_reply("input.team_id", "input.channel_id");
    }
    let mentions_and_replies =
        "unnest($4::bigint[], $5::bigint[], $6::bigint[], $8::bigint[], $10::text[])
            as post (team_id, channel_id, id, thread_id, mention)
        cross join calm";
    let (more, written) = more(parts, mentions_and_replies);
    format!(
        "
    with calm as materialized (
        select clock_timestamp() as created_at
        from unnest($1::int[], $2::oid[], $3::bigint[]) as slot (number, sequence, known_last_id)
        -- Divides by zero where the sequence has moved.
        where 1 / (
            case when pg_advisory_xact_lock(72, number)::text is not null
                then coalesce(pg_sequence_last_value(sequence::regclass), 0)
            end = known_last_id
        )::int = 1
        -- The row of the last one, when all are locked.
        offset cardinality($1) - 1
    ),
    appended as (
        insert into messages
            (team_id, channel_id, id, seq, thread_id, created_at, sender, mention, content,
                traceparent)
        select team_id, {channel_id}, id, seq, thread_id, created_at, sender, mention, content,
            traceparent
        from unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[],
                $10::text[], $11::text[], $12::bytea[])
            as input (team_id, channel_id, id, seq, thread_id, sender, mention, content, traceparent)
        cross join calm
        returning 1
    ),
    remembered as (
        insert into idempotency_keys
            (team_id, digest, body_digest, channel_id, message_id, created_at)
        select team_id, digest, body_digest, channel_id, id, created_at
        from unnest($13::bigint[], $14::uuid[], $15::uuid[], $16::bigint[], $17::bigint[])
            as input (team_id, digest, body_digest, channel_id, id)
        cross join calm
        returning 1
    ){more}
    select created_at, setval(sequence::regclass, last_id)
    from calm
    cross join unnest($2::oid[], $18::bigint[]) as slot (sequence, last_id)
    where {appended} and {remembered}{written}",
        appended = is_written("appended"),
        remembered = is_written("remembered"),
    )
}

/// What [`all`] and [`alone`] have to do beside the messages: they have these parts only for batches
/// that need them, since a part that finds nothing to do costs about 20 µs all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Some of the posts mention somebody.
    pub(crate) mentions: bool,
    /// Some of them are replies.
    pub(crate) replies: bool,
}

impl Parts {
    /// How many different ones there are.
    pub(crate) const COUNT: usize = 4;

    /// All of them, each at its [`index`](Self::index).
    pub(crate) fn every() -> [Self; Self::COUNT] {
        std::array::from_fn(|index| Self {
            mentions: index & 1 != 0,
            replies: index & 2 != 0,
        })
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.mentions) | usize::from(self.replies) << 1
    }
}

/// True, and known only when a part has written all of its rows: the sequences are set after that.
/// No batch has a million of them. (Counting them would cost Postgres some µs more.)
fn is_written(part: &str) -> String {
    format!("(select true from {part} offset 1000000) is null")
}

/// The statement's further parts, which take the posts from `posts`, and the conditions that they are
/// written.
fn more(parts: Parts, posts: &str) -> (String, String) {
    let (mut more, mut written) = (String::new(), String::new());
    if parts.mentions {
        more += &format!(
            ",
    mentioned as (
        insert into mentions (team_id, name, channel_id, id)
        select team_id, mention, channel_id, id
        from {posts}
        where mention is not null
        returning 1
    )"
        );
        written += &format!(" and {}", is_written("mentioned"));
    }
    if parts.replies {
        more += &format!(
            ",
    counted as (
        update messages parent
        set reply_count = parent.reply_count + replies.count
        from (
            select team_id, channel_id, thread_id, count(*) as count
            from {posts}
            where thread_id is not null
            group by team_id, channel_id, thread_id
        ) replies
        where parent.team_id = replies.team_id and parent.channel_id = replies.channel_id
            and parent.id = replies.thread_id
        returning 1
    )"
        );
        written += &format!(" and {}", is_written("counted"));
    }
    (more, written)
}

/// Null, which the table refuses, where the parent doesn't stand.
fn channel_of_reply(team_id: &str, channel_id: &str) -> String {
    format!(
        "
            case
                when input.thread_id is null or (
                    select m.id
                    from messages m
                    where m.team_id = {team_id} and m.channel_id = {channel_id}
                        and m.id = input.thread_id and coalesce(m.deleted_id, 0) = 0
                    limit 1
                ) is not null then {channel_id}
            end"
    )
}

/// What became of a message to append: the column `outcome` of [`EACH`].
pub(crate) enum Appended {
    Posted,
    ChannelMissing,
    ParentMissing,
    Earlier,
    OtherBody,
}

impl Appended {
    pub(crate) fn from_code(code: i16) -> Result<Self> {
        match code {
            0 => Ok(Self::Posted),
            1 => Ok(Self::ChannelMissing),
            2 => Ok(Self::ParentMissing),
            3 => Ok(Self::Earlier),
            4 => Ok(Self::OtherBody),
            _ => Err(Error::Internal(format!("unknown outcome {code}").into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_at_their_index() {
        for (index, parts) in Parts::every().into_iter().enumerate() {
            assert_eq!(parts.index(), index, "{parts:?}");
        }
    }
}
