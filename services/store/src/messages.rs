//! Messages: appended by lanes, read by pages.

use crate::{ChannelId, DataPlane, Result, Store};
use handoff_protocol::{
    ChannelName, Content, Cursor, Id, MentionName, Name, TeamId, Timestamp, TraceParent,
    messages::{Message, MessageFilter},
    pages::{Page, PageLimit, PageRequest},
};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

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
