-- A message says which span of which trace it was posted in, where that trace is recorded.

alter table messages add column traceparent bytea;
comment on column messages.traceparent is
    'Trace ID (16 bytes) and span ID (8 bytes) of a sampled trace; null for all others.';
