-- Idempotency keys, kept as digests of 16 bytes: a row and its place in the index take half of what
-- `idempotency` takes, where hash, key and body's hash stand in full.

create table idempotency_keys (
    team_id bigint not null,
    digest uuid not null,
    body_digest uuid not null,
    channel_id bigint not null,
    message_id bigint not null,
    created_at timestamptz not null,
    primary key (team_id, digest)
);
comment on table idempotency_keys is 'What a retried post answers. Kept for 24 hours.';
comment on column idempotency_keys.digest is
    'The first 16 bytes of the SHA-256 of the API key''s hash and the idempotency key: uuid is the '
    'type for 16 bytes.';
comment on column idempotency_keys.body_digest is
    'The first 16 bytes of the SHA-256 of everything that was asked for.';
create index idempotency_keys_by_time on idempotency_keys using brin (created_at);

-- Replicas of the release before go on writing to `idempotency` until they are replaced. A new one
-- must know what they wrote; and where one of them is about to post what a new one has stored
-- under the same key, which it can't know, its transaction fails.
create function carry_idempotency_over() returns trigger language plpgsql as $$
begin
    insert into idempotency_keys as known values (
        new.team_id,
        encode(substr(sha256(new.key_hash || convert_to(new.idempotency_key, 'UTF8')), 1, 16), 'hex')::uuid,
        encode(substr(new.body_hash, 1, 16), 'hex')::uuid,
        new.channel_id, new.message_id, new.created_at
    )
    on conflict (team_id, digest) do update
    set body_digest = excluded.body_digest, channel_id = excluded.channel_id,
        message_id = excluded.message_id, created_at = excluded.created_at
    -- It has expired, or its message was removed with its channel.
    where known.created_at < clock_timestamp() - interval '24 hours'
        or not exists (
            select from messages m
            where m.team_id = known.team_id and m.channel_id = known.channel_id
                and m.id = known.message_id
        );
    if not found then
        -- Of the class that replicas answer with 503, so that clients try again.
        raise serialization_failure
            using message = 'a replica of a newer release has stored a post under this key';
    end if;
    return null;
end
$$;
create trigger carry_over after insert or update on idempotency
for each row execute function carry_idempotency_over();

-- No post comes in between the trigger and the copy: creating it keeps writers out until commit.
insert into idempotency_keys
select team_id,
    encode(substr(sha256(key_hash || convert_to(idempotency_key, 'UTF8')), 1, 16), 'hex')::uuid,
    encode(substr(body_hash, 1, 16), 'hex')::uuid,
    channel_id, message_id, created_at
from idempotency
where created_at >= clock_timestamp() - interval '24 hours';

comment on table idempotency is
    'For replicas of releases before `idempotency_keys`. The release after that removes it.';
