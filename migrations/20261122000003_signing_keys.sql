-- What delegated tokens are signed with. Made when the first token is, rotated by
-- `handoff-relay rotate-signing-key`.

create table signing_keys (
    kid text collate "C" primary key,
    secret bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    retired_at timestamptz
);
comment on table signing_keys is
    'Belongs to no team: a token names its team by the API key that it was made with.';
comment on column signing_keys.secret is 'For HMAC-SHA256. Whoever reads it can sign tokens.';
comment on column signing_keys.retired_at is
    'Since then it signs no more. It verifies until no token of it can be left.';
-- Of replicas that make the first key at once, one does.
create unique index signing_keys_that_sign on signing_keys ((retired_at is null))
    where retired_at is null;
