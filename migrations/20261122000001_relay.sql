-- The relay's schema.
--
-- Every team belongs to the slot `team_id % 64`. A slot has one advisory lock (class 72, the slot's
-- number) and one sequence. A write holds the lock from before it draws its IDs until after it
-- has committed, so within a team IDs become visible in ascending order and a slot's IDs have no
-- holes but those of aborted writes.

create table teams (
    id bigserial primary key,
    name text not null,
    created_at timestamptz not null default clock_timestamp()
);
comment on table teams is 'The tenants. slot = id % 64 is a constant of the schema.';

create table api_keys (
    hash bytea primary key,
    team_id bigint not null references teams (id),
    sender text collate "C" not null,
    permissions jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz
);
comment on table api_keys is 'Keys are found by hash alone; the raw key is never stored.';
comment on column api_keys.hash is 'SHA-256 of the raw key.';
comment on column api_keys.permissions is 'channel or "*" -> read | write | admin';
create index api_keys_by_team on api_keys (team_id);

create table key_changes (
    id bigserial primary key,
    key_hash bytea not null,
    changed_at timestamptz not null default clock_timestamp()
);
comment on table key_changes is
    'Keys narrowed or revoked: replicas drop them from their caches. Kept for an hour.';
create index key_changes_by_time on key_changes (changed_at);

create table channels (
    team_id bigint not null,
    id bigint not null,
    name text collate "C" not null,
    description text,
    created_at timestamptz not null,
    deleted_id bigint,
    primary key (team_id, id)
);
comment on column channels.id is 'Drawn from the slot''s sequence, never used again.';
comment on column channels.deleted_id is
    'The ID of the deletion. The name is free from then on; what the channel held is removed in '
    'the background, in small batches.';
create unique index channels_live_name on channels (team_id, name) where deleted_id is null;
create index channels_deleted on channels (team_id, id) where deleted_id is not null;

create table messages (
    team_id bigint not null,
    channel_id bigint not null,
    id bigint not null,
    seq bigint not null,
    thread_id bigint,
    deleted_id bigint,
    created_at timestamptz not null,
    reply_count bigint not null default 0,
    sender text collate "C" not null,
    mention text collate "C",
    content text not null,
    constraint messages_pkey primary key (team_id, channel_id, id)
);
comment on table messages is
    'A channel''s newest row is never removed: the next seq is looked up there.';
comment on column messages.seq is '1, 2, 3 ... in the channel, as posted.';
comment on column messages.deleted_id is
    'The ID of the deletion; such a row is an emptied tombstone that keeps its seq.';
comment on column messages.reply_count is 'Replies that stand.';
create index messages_by_sender on messages (team_id, channel_id, sender, id)
    where deleted_id is null;
create index messages_by_thread on messages (team_id, channel_id, thread_id, id)
    where thread_id is not null and deleted_id is null;
create index messages_deleted on messages (team_id, channel_id, deleted_id)
    where deleted_id is not null;

create table mentions (
    team_id bigint not null,
    name text collate "C" not null,
    channel_id bigint not null,
    id bigint not null,
    primary key (team_id, name, channel_id, id)
);
comment on table mentions is 'A row for each name that a standing message calls.';

create table acks (
    team_id bigint not null,
    channel_id bigint not null,
    sender text collate "C" not null,
    last_read_id bigint not null,
    acked_at timestamptz not null,
    id bigint not null,
    primary key (team_id, channel_id, sender)
);
comment on column acks.id is 'The ID of the ack''s last move.';

create table status_entries (
    team_id bigint not null,
    channel_id bigint not null,
    key text collate "C" not null,
    value text not null,
    updated_by text not null,
    updated_at timestamptz not null,
    version bigint not null,
    primary key (team_id, channel_id, key)
);
comment on column status_entries.version is 'The ID of the change that wrote it.';

create table status_history (
    team_id bigint not null,
    channel_id bigint not null,
    id bigint not null,
    key text collate "C" not null,
    value text not null,
    changed_by text not null,
    changed_at timestamptz not null,
    deleted boolean not null,
    primary key (team_id, channel_id, id)
);

create table idempotency (
    team_id bigint not null,
    key_hash bytea not null,
    idempotency_key text collate "C" not null,
    body_hash bytea not null,
    channel_id bigint not null,
    message_id bigint not null,
    created_at timestamptz not null,
    primary key (team_id, key_hash, idempotency_key)
);
comment on table idempotency is 'What a retried post answers. Kept for 24 hours.';
create index idempotency_by_time on idempotency using brin (created_at);

create table audit_log (
    team_id bigint not null,
    id bigint not null,
    key_hash bytea not null,
    sender text not null,
    action text not null,
    channel text not null,
    denied_at timestamptz not null,
    primary key (team_id, id)
);
comment on table audit_log is 'Requests answered 403 FORBIDDEN.';

create table replicas (
    id bigserial primary key,
    started_at timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp()
);
comment on table replicas is 'Replicas that serve; one whose heartbeat stopped counts no more.';

create table replica_streams (
    replica_id bigint not null references replicas (id) on delete cascade,
    key_hash bytea not null,
    streams bigint not null,
    primary key (replica_id, key_hash)
);
comment on table replica_streams is 'How many streams of a key a replica holds open.';
create index replica_streams_by_key on replica_streams (key_hash);

create unlogged table rate_limits (
    bucket bytea primary key,
    window_started_at timestamptz not null,
    used bigint not null,
    granted bigint not null
);
comment on column rate_limits.granted is 'How much of its last request a replica was given.';
comment on table rate_limits is
    'What replicas have taken of a key''s (or an address''s) budget in its window. Lost in a '
    'crash, which costs nothing but one window.';

create table signups (
    address text primary key,
    window_started_at timestamptz not null,
    used bigint not null
);
comment on table signups is 'Teams signed up from an address in its hour.';

do $$
begin
    for slot in 0..63 loop
        execute format('create sequence slot_%s as bigint cache 1', slot);
    end loop;
end
$$;
