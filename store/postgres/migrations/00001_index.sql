-- +goose Up

-- Names and digests compare by bytes. Every foreign key has an index on its own side as well, so that deleting what it points
-- to never scans. What hangs on a repository has the repository in its key, and contents have the digest: so each table can be
-- partitioned by a hash of that.

-- The repositories that have a link. A row comes with the first link and goes with the last; a repository that is deleted
-- whole has no name any more, until what hangs on its id is gone. All else that must be able to outlive a repository
-- (sessions, candidates) names it instead of hanging on its id.
create table {schema}.repositories (
    id      bigint generated always as identity primary key,
    name    text collate "C" unique,
    created timestamptz not null
);

-- Where the bytes of a digest are: under an object's key, or, where there is none, inline. No bytes is not NULL. Bytes that
-- were inline stay when an object joins them, since every manifest is read from here. What an audit found missing reads as
-- absent until it is pushed again.
create table {schema}.contents (
    digest  text collate "C" primary key,
    size    bigint not null,
    key     text collate "C",
    inline  bytea,
    missing timestamptz,
    check (key is not null or inline is not null)
);

-- That content may be read in a repository.
create table {schema}.links (
    repository bigint not null references {schema}.repositories (id),
    digest     text collate "C" not null references {schema}.contents (digest),
    primary key (repository, digest)
);

create index links_by_digest on {schema}.links (digest, repository);

-- What is told about linked content that was pushed as a manifest. Annotations are a JSON object; an artifact type or a
-- subject that is absent is ''.
create table {schema}.manifests (
    repository    bigint not null,
    digest        text collate "C" not null,
    media_type    text not null,
    artifact_type text not null,
    subject       text collate "C" not null,
    annotations   text,
    size          bigint not null,
    pushed        timestamptz not null,
    primary key (repository, digest),
    foreign key (repository, digest) references {schema}.links (repository, digest)
);

create index manifests_by_subject on {schema}.manifests (repository, subject, digest) where subject <> '';

-- Every reference of a manifest but its subject, whether the child is here or not. present is the child once more if it
-- was here when the manifest was put, and holds its link: writing it locks the link, and what an edge holds cannot go.
create table {schema}.edges (
    repository bigint not null,
    parent     text collate "C" not null,
    child      text collate "C" not null,
    present    text collate "C",
    primary key (repository, parent, child),
    foreign key (repository, parent) references {schema}.manifests (repository, digest),
    foreign key (repository, present) references {schema}.links (repository, digest)
);

-- The edges to a child are in the first of these or in the second one.
create index edges_by_present on {schema}.edges (repository, present, parent) where present is not null;
create index edges_by_absent on {schema}.edges (repository, child, parent) where present is null;

create table {schema}.tags (
    repository bigint not null,
    name       text collate "C" not null,
    digest     text collate "C" not null,
    primary key (repository, name) include (digest),
    foreign key (repository, digest) references {schema}.manifests (repository, digest)
);

create index tags_by_digest on {schema}.tags (repository, digest, name);

-- Uploads under way, and the tombstones of finished ones. The columns are the fields of the session. A session is written
-- often, and always the same columns, none of which has an index: so pages leave room for that.
create table {schema}.sessions (
    id            text collate "C" primary key,
    repository    text collate "C" not null,
    state         smallint not null,
    version       bigint not null,
    algorithm     text not null,
    digest        text collate "C" not null,
    started       timestamptz not null,
    touched       timestamptz not null,
    reserved_blob text not null,
    reserved_tail text not null,
    durable       bigint not null,
    parts_end     bigint not null,
    hash          bytea,
    parts_hash    bytea,
    multipart_key text not null,
    multipart_id  text not null,
    part_size     bigint not null,
    last_part     integer not null,
    inline        bytea
) with (fillfactor = 50);

-- What is uploaded is mostly compressed already.
alter table {schema}.sessions alter column inline set storage external;

-- Parts of an upload that are durable. They are rows of their own so that a save writes only new ones.
create table {schema}.parts (
    session text collate "C" not null references {schema}.sessions (id) on delete cascade,
    number  integer not null,
    start   bigint not null,
    size    bigint not null,
    tag     text not null,
    primary key (session, number)
);

-- Objects with bytes of an upload that are not in a part yet, in their order.
create table {schema}.tails (
    session text collate "C" not null references {schema}.sessions (id) on delete cascade,
    ordinal integer not null,
    key     text not null,
    size    bigint not null,
    primary key (session, ordinal)
);

-- Content of a repository that nothing may refer to, to be reviewed: a superset of what nothing refers to.
create table {schema}.candidates (
    repository text collate "C" not null,
    digest     text collate "C" not null,
    touched    timestamptz not null,
    primary key (repository, digest)
);

create index candidates_by_touched on {schema}.candidates (touched, repository, digest);

-- Objects that no row names any more, to be deleted.
create table {schema}.garbage (
    key       text collate "C" primary key,
    condemned timestamptz not null,
    tries     integer not null default 0
);

create index garbage_by_condemned on {schema}.garbage (condemned, key);
