-- Which database this is: a backup restored and a standby promoted hand out IDs again that clients
-- have seen, so then a new epoch begins, with IDs past all of them.

create table epochs (
    number bigint generated always as identity primary key,
    id uuid not null default gen_random_uuid(),
    database_identity text not null,
    began_at timestamptz not null default clock_timestamp()
);
comment on table epochs is
    'The last row is the current epoch. Replicas compare its identity with the database''s whenever '
    'they connect to write or to listen.';
comment on column epochs.database_identity is
    'System identifier, timeline and object ID of the database that the epoch began in; empty where '
    'they can''t be read.';
