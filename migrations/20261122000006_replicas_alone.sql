-- So that a replica which starts beside several waits for none of them.

alter table replicas add column alone boolean not null default true;
comment on column replicas.alone is
    'It may take itself for the only one: its last heartbeat but one saw no other. One of a version '
    'before this column always may.';
