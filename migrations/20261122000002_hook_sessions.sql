-- How far the sessions of coding agents were told of messages by their hooks, so that none is
-- told twice.

create table hook_sessions (
    team_id bigint not null,
    sender text collate "C" not null,
    session_id text collate "C" not null,
    announced_id bigint not null,
    before_id bigint not null,
    updated_at timestamptz not null,
    primary key (team_id, sender, session_id)
);
comment on column hook_sessions.announced_id is 'The session was told of what stands up to here.';
comment on column hook_sessions.before_id is 'Where announced_id stood before its last move.';
create index hook_sessions_by_time on hook_sessions (updated_at);
