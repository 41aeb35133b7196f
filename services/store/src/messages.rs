//! Messages: appended by lanes, read by pages.

use crate::{ChannelId, DataPlane, Error, Result, Store};
use handoff_protocol::{
    ChannelName, Content, Cursor, Id, MentionName, Name, TeamId, Timestamp, TraceParent,
    messages::{Message, MessageFilter},
    pages::{Page, PageLimit, PageRequest},
};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

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
pub(crate) const APPEND: &str = "
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
                            $10::bytea[], $11::text[], $12::bytea[], $13::bytea[])
                        with ordinality as input (place, sender, content, mention, thread_id,
                            key_hash, idempotency_key, body_hash, traceparent, ord)
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
                        i.body_hash = post.body_hash as same_body
                    from idempotency i
                    where i.team_id = post.team_id and i.key_hash = post.key_hash
                        and i.idempotency_key = post.idempotency_key
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
        insert into idempotency
            (team_id, key_hash, idempotency_key, body_hash, channel_id, message_id, created_at)
        select team_id, key_hash, idempotency_key, body_hash, channel_id, id, created_at
        from drawn
        where outcome = 0 and idempotency_key is not null
        -- One that stands here names a message that was removed with its channel.
        on conflict (team_id, key_hash, idempotency_key) do update
        set body_hash = excluded.body_hash, channel_id = excluded.channel_id,
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
/// before, it fails on a constraint, and nothing was drawn. Then [`APPEND`] tells which it was.
///
/// The caller holds the locks of their slots, as for [`APPEND`], and has counted: which of the
/// slot's messages in this batch a message is, and which of its channel's, each from 1. So IDs
/// are counted on from what the slot's sequence gave last. The sequence follows at the end, when
/// everything is written.
///
/// Where the sequence still stands at the caller's `known_last_id`, nobody else has written to the
/// slot since: then a channel's ID and newest `seq` are as the caller knows them, and only where
/// they are null they are looked up.
///
/// One row comes back, with what the caller needs to know all IDs and `seq`s.
pub(crate) const APPEND_ALL: &str = "
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
            case
                when input.thread_id is null or (
                    select m.id
                    from messages m
                    where m.team_id = ($1::bigint[])[place] and m.channel_id = channel_ids[place]
                        and m.id = input.thread_id and coalesce(m.deleted_id, 0) = 0
                    limit 1
                ) is not null then channel_ids[place]
            end as channel_id,
            last_ids[slot] + nth_in_slot as id, seqs[place] + nth_in_channel as seq, created_at,
            input.*
        from unnest($10::int[], $11::int[], $12::int[], $13::int[], $14::text[], $15::text[],
                $16::text[], $17::bigint[], $18::bytea[], $19::text[], $20::bytea[], $21::bytea[])
            as input (place, slot, nth_in_slot, nth_in_channel, sender, content, mention, thread_id,
                key_hash, idempotency_key, body_hash, traceparent)
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
    mentioned as (
        insert into mentions (team_id, name, channel_id, id)
        select team_id, mention, channel_id, id
        from drawn
        where mention is not null
        returning 1
    ),
    remembered as (
        insert into idempotency
            (team_id, key_hash, idempotency_key, body_hash, channel_id, message_id, created_at)
        select team_id, key_hash, idempotency_key, body_hash, channel_id, id, created_at
        from drawn
        where idempotency_key is not null
        returning 1
    ),
    counted as (
        update messages parent
        set reply_count = parent.reply_count + replies.count
        from (
            select team_id, channel_id, thread_id, count(*) as count
            from drawn
            where thread_id is not null
            group by team_id, channel_id, thread_id
        ) replies
        where parent.team_id = replies.team_id and parent.channel_id = replies.channel_id
            and parent.id = replies.thread_id
        returning 1
    )
    select channel_ids, seqs, last_ids, created_at,
        (
            select count(setval(sequence::regclass, last_ids[ord] + messages))
            from unnest($7::oid[], $9::int[]) with ordinality as slot (sequence, messages, ord)
        ) as sequences_set
    from heads
    cross join slots
    -- Always true, and known only when all is written: the sequences are set after that.
    where (select count(*) from appended) + (select count(*) from mentioned)
        + (select count(*) from remembered) + (select count(*) from counted) >= 0";

/// What became of a message to append: the column `outcome` of [`APPEND`].
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

/// Empties messages into tombstones: the row keeps its `seq`, so that the next one is found. Each
/// message of a batch belongs to another team.
pub(crate) const DELETE: &str = "
    with input as materialized (
        select item.*
        from unnest($1::bigint[], $2::oid[], $3::text[], $4::bigint[]) with ordinality
            as item (team_id, sequence, channel, message_id, ord)
    ),
    looked_up as materialized (
        select input.*, message.channel_id, message.mention, message.thread_id
        from input
        left join lateral (
            select c.id
            from channels c
            where c.team_id = input.team_id and c.name = input.channel and c.deleted_id is null
            limit 1
        ) channel on true
        left join lateral (
            select m.channel_id, m.mention, m.thread_id
            from messages m
            where m.team_id = input.team_id and m.channel_id = channel.id
                and m.id = input.message_id and coalesce(m.deleted_id, 0) = 0
            limit 1
        ) message on true
        order by ord
    ),
    drawn as materialized (
        select looked_up.*,
            case when channel_id is not null then nextval(sequence::regclass) end as id
        from looked_up
    ),
    emptied as (
        update messages m
        set deleted_id = drawn.id, content = '', mention = null, traceparent = null
        from drawn
        where drawn.id is not null and m.team_id = drawn.team_id
            and m.channel_id = drawn.channel_id and m.id = drawn.message_id
    ),
    unmentioned as (
        delete from mentions n
        using drawn
        where drawn.id is not null and n.team_id = drawn.team_id and n.name = drawn.mention
            and n.channel_id = drawn.channel_id and n.id = drawn.message_id
    ),
    counted as (
        update messages parent
        set reply_count = parent.reply_count - 1
        from drawn
        where drawn.id is not null and parent.team_id = drawn.team_id
            and parent.channel_id = drawn.channel_id and parent.id = drawn.thread_id
    )
    select ord, id, channel_id
    from drawn";

macro_rules! columns {
    () => {
        "m.id, m.seq, m.sender, m.content, m.mention, m.thread_id, m.reply_count, m.created_at, \
         m.traceparent"
    };
}
pub(crate) use columns;

/// What stands in a range of IDs, for the feed. Every ID of the range is decided.
pub(crate) const IN_RANGE: &str = concat!(
    "
    select wanted.team_id, wanted.channel_id, wanted.channel, message.*
    from (
        select w.team_id, w.channel_id, c.name as channel
        from unnest($1::bigint[], $2::bigint[]) as w (team_id, channel_id)
        cross join lateral (
            select c.name
            from channels c
            where c.team_id = w.team_id and c.id = w.channel_id
            limit 1
        ) c
    ) wanted
    cross join lateral (
        select ",
    columns!(),
    "
        from messages m
        where m.team_id = wanted.team_id and m.channel_id = wanted.channel_id
            and m.id > $3 and m.id <= $4 and coalesce(m.deleted_id, 0) = 0
        order by m.id
        limit $5
    ) message"
);

/// A page over several channels of a team, for a stream whose cursor is older than what memory
/// holds.
pub(crate) const STREAM_PAGE: &str = concat!(
    "
    select c.name as channel, message.*
    from unnest($2::bigint[]) as wanted (channel_id)
    cross join lateral (
        select c.name
        from channels c
        where c.team_id = $1 and c.id = wanted.channel_id and coalesce(c.deleted_id, 0) = 0
        limit 1
    ) c
    cross join lateral (
        select ",
    columns!(),
    "
        from messages m
        where m.team_id = $1 and m.channel_id = wanted.channel_id and m.id > $3 and m.id <= $4
            and coalesce(m.deleted_id, 0) = 0
        order by m.id
        limit $5
    ) message
    order by message.id
    limit $5"
);

/// Reads what a caller hasn't acknowledged.
pub(crate) const UNREAD: &str = concat!(
    "
    with mark as materialized (
        select c.id as channel_id, coalesce((
            select a.last_read_id
            from acks a
            where a.team_id = $1 and a.channel_id = c.id and a.sender = $3
        ), 0) as last_read_id
        from channels c
        where c.team_id = $1 and c.name = $2 and c.deleted_id is null
    )
    select ",
    columns!(),
    "
    from messages m
    where m.team_id = $1 and m.channel_id = (select mark.channel_id from mark)
        and m.id > (select mark.last_read_id from mark) and coalesce(m.deleted_id, 0) = 0
    order by m.id
    limit $4"
);

/// Reads how far a caller has acknowledged.
pub(crate) const MARK: &str = "
    select a.last_read_id
    from acks a
    where a.team_id = $1 and a.sender = $3 and a.channel_id = (
        select c.id
        from channels c
        where c.team_id = $1 and c.name = $2 and c.deleted_id is null
    )";

/// Reads one message.
pub(crate) const FIND: &str = concat!(
    "
    select c.name as channel, message.*
    from channels c
    cross join lateral (
        select ",
    columns!(),
    "
        from messages m
        where m.team_id = $1 and m.channel_id = c.id and m.id = $3
            and coalesce(m.deleted_id, 0) = 0
        limit 1
    ) message
    where c.team_id = $1 and c.name = $2 and c.deleted_id is null"
);

/// The statement that reads a page of a channel with these filters, from the index that the most
/// selective one has. Its parameters: team, channel, cursor, limit, then the filters in the order
/// mention, sender, thread.
pub(crate) fn page_statement(filter: &MessageFilter, newest: bool) -> String {
    let mut next = 5;
    let mut condition = |column: &str| {
        next += 1;
        format!(" and {column} = ${}", next - 1)
    };
    let by_mention = filter.mention.as_ref().map(|_| condition("n.name"));
    let by_sender = filter
        .sender
        .as_ref()
        .map(|_| condition("m.sender"))
        .unwrap_or_default();
    let by_thread = filter
        .thread_id
        .map(|_| condition("m.thread_id"))
        .unwrap_or_default();
    let (comparison, order) = if newest { ("<=", "desc") } else { (">", "asc") };
    // With a filter the partial indexes are the ones wanted.
    let stands = match (&filter.sender, &filter.thread_id) {
        (None, None) => "coalesce(m.deleted_id, 0) = 0",
        _ => "m.deleted_id is null",
    };
    // Looked up once, before the page: a join would put the page through a sort.
    let channel = "(
            select c.id
            from channels c
            where c.team_id = $1 and c.name = $2 and c.deleted_id is null
        )";
    match by_mention {
        // The fences (`offset 0`, `limit 1`) make the mentions lead: they are the fewer.
        Some(by_mention) => format!(
            "select m.*
        from (
            select n.channel_id, n.id
            from mentions n
            where n.team_id = $1 and n.channel_id = {channel}{by_mention}
                and n.id {comparison} $3
            order by n.id {order}
            offset 0
        ) n
        cross join lateral (
            select {columns}
            from messages m
            where m.team_id = $1 and m.channel_id = n.channel_id and m.id = n.id
                and coalesce(m.deleted_id, 0) = 0{by_sender}{by_thread}
            limit 1
        ) m
        order by n.id {order}
        limit $4",
            columns = columns!(),
        ),
        None => format!(
            "select {columns}
        from messages m
        where m.team_id = $1 and m.channel_id = {channel} and m.id {comparison} $3
            and {stands}{by_sender}{by_thread}
        order by m.id {order}
        limit $4",
            columns = columns!(),
        ),
    }
}

/// A page of a channel, in the order asked for.
async fn read_page(
    data: &DataPlane,
    team: TeamId,
    channel: &ChannelName,
    filter: &MessageFilter,
    newest: bool,
    cursor: i64,
    limit: i64,
) -> Result<Vec<Message>> {
    let sql = page_statement(filter, newest);
    let (team, name, channel) = (team.serial(), channel, channel.as_str());
    let thread_id = filter.thread_id.map(Id::serial);
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&team, &channel, &cursor, &limit];
    if let Some(mention) = &filter.mention {
        params.push(mention);
    }
    if let Some(sender) = &filter.sender {
        params.push(sender);
    }
    if let Some(thread_id) = &thread_id {
        params.push(thread_id);
    }
    let rows = data.query("list messages", &sql, &params).await?;
    rows.iter().map(|row| from_columns(row, 0, name)).collect()
}

/// What a caller hasn't acknowledged, and where that begins.
#[derive(Debug)]
pub struct Unread {
    /// The caller's ack, where nothing follows it.
    pub cursor: Cursor,
    /// What follows it.
    pub page: Page<Message>,
}

impl Store {
    /// Reads a page of a channel; empty where the channel doesn't exist.
    pub async fn list_messages(
        &self,
        team: TeamId,
        channel: &ChannelName,
        filter: &MessageFilter,
        page: PageRequest,
    ) -> Result<Page<Message>> {
        let limit = page.limit.get() as i64;
        match page.after {
            Some(after) => {
                let after = after.serial();
                let items =
                    read_page(&self.data, team, channel, filter, false, after, limit + 1).await?;
                Ok(Page::from_one_more(items, page.limit))
            }
            None => {
                let mut items =
                    read_page(&self.data, team, channel, filter, true, i64::MAX, limit).await?;
                items.reverse();
                Ok(Page {
                    items,
                    has_more: false,
                })
            }
        }
    }

    /// Reads what follows the caller's ack; nothing where the channel doesn't exist.
    pub async fn list_unread(
        &self,
        team: TeamId,
        channel: &ChannelName,
        sender: &Name,
        limit: PageLimit,
    ) -> Result<Unread> {
        let (team, name, channel) = (team.serial(), channel, channel.as_str());
        let sender = sender.as_str();
        let one_more = limit.get() as i64 + 1;
        let params: [&(dyn ToSql + Sync); 4] = [&team, &channel, &sender, &one_more];
        let rows = self
            .data
            .query("read unread messages", UNREAD, &params)
            .await?;
        let items = rows.iter().map(|row| from_columns(row, 0, name));
        let page = Page::from_one_more(items.collect::<Result<_>>()?, limit);
        let mut cursor = Id::BEGINNING;
        if page.items.is_empty() {
            // The page is where the ack was, or where it has moved meanwhile: nothing is between.
            let mark = self.data.query("read ack", MARK, &params[..3]).await?;
            if let Some(row) = mark.first() {
                cursor = Id::from_serial(row.try_get(0)?);
            }
        }
        Ok(Unread { cursor, page })
    }

    /// Reads one message that stands.
    pub async fn find_message(
        &self,
        team: TeamId,
        channel: &ChannelName,
        id: Id,
    ) -> Result<Option<Message>> {
        let (team, channel, id) = (team.serial(), channel.as_str(), id.serial());
        let rows = self
            .data
            .query("find message", FIND, &[&team, &channel, &id])
            .await?;
        rows.first().map(from_row).transpose()
    }

    /// Reads a page over several channels of a team in `(after, up_to]`, oldest first.
    pub async fn stream_page(
        &self,
        team: TeamId,
        channels: &[ChannelId],
        after: i64,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<Message>> {
        let ids: Vec<i64> = channels.iter().map(|channel| channel.0).collect();
        let team = team.serial();
        let rows = self
            .data
            .query(
                "read stream page",
                STREAM_PAGE,
                &[&team, &ids, &after, &up_to, &limit],
            )
            .await?;
        rows.iter().map(from_row).collect()
    }
}

/// The span that a row's message was posted in.
pub(crate) fn traceparent_in(row: &Row) -> Result<Option<TraceParent>> {
    let traceparent = row.try_get::<_, Option<&[u8]>>("traceparent")?;
    Ok(traceparent.and_then(TraceParent::from_row))
}

/// Reads a row of [`columns`] with the channel's name.
pub(crate) fn from_row(row: &Row) -> Result<Message> {
    let first = row
        .columns()
        .iter()
        .position(|column| column.name() == "id");
    let channel = ChannelName::from_row(row.try_get("channel")?);
    from_columns(row, first.unwrap_or(0), &channel)
}

/// Reads [`columns`], the first of which is the row's `first`: by place, since there are many rows.
fn from_columns(row: &Row, first: usize, channel: &ChannelName) -> Result<Message> {
    let mention: Option<&str> = row.try_get(first + 4)?;
    let thread_id: Option<i64> = row.try_get(first + 5)?;
    let traceparent: Option<&[u8]> = row.try_get(first + 8)?;
    Ok(Message {
        id: Id::from_serial(row.try_get(first)?),
        channel: channel.clone(),
        seq: row.try_get(first + 1)?,
        sender: Name::from_row(row.try_get(first + 2)?),
        content: Content::from_row(row.try_get(first + 3)?),
        mention: mention.map(MentionName::from_row),
        thread_id: thread_id.map(Id::from_serial),
        reply_count: row.try_get(first + 6)?,
        created_at: row.try_get::<_, Moment>(first + 7)?.0,
        traceparent: traceparent.and_then(TraceParent::from_row),
    })
}

/// A `timestamptz` as it comes, in microseconds, with no calendar in between.
struct Moment(Timestamp);

impl<'a> FromSql<'a> for Moment {
    fn from_sql(
        _: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        /// From 1970 to 2000, where Postgres begins.
        const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;
        let micros = i64::from_be_bytes(raw.try_into()?);
        let micros = micros.saturating_add(POSTGRES_EPOCH_MICROS);
        Ok(Self(Timestamp::from_micros(micros)))
    }

    tokio_postgres::types::accepts!(TIMESTAMPTZ);
}
