-- +goose Up

-- Times are integers: nanoseconds since 1970, UTC. Names and digests compare by bytes. Every foreign key has an index on
-- its own side as well, so that deleting what it points to never scans.

-- The repositories that have a link. A row comes with the first link and goes with the last, so all else that must be able
-- to outlive a repository (sessions, candidates) names it instead of hanging on its id.
create table repositories (
    id   integer primary key,
    name text not null unique
) strict;

-- Where the bytes of a digest are: under an object's key, or, where there is none, inline. No bytes is not NULL. Bytes that
-- were inline stay when an object joins them, since every manifest is read from here.
create table contents (
    digest text primary key,
    size   integer not null,
    key    text,
    inline blob,
    check (key is not null or inline is not null)
) strict;

-- That content may be read in a repository.
create table links (
    repository integer not null references repositories (id),
    digest     text not null references contents (digest),
    primary key (repository, digest)
) strict, without rowid;

create index links_by_digest on links (digest, repository);

-- What is told about linked content that was pushed as a manifest. Annotations are a JSON object; an artifact type or a
-- subject that is absent is ''. Edges and tags name a manifest by its id, not by its digest, which is random: so the new
-- rows of all of them lie side by side, and a commit writes few pages.
create table manifests (
    id            integer primary key,
    repository    integer not null,
    digest        text not null,
    media_type    text not null,
    artifact_type text not null,
    subject       text not null,
    annotations   text,
    size          integer not null,
    unique (repository, digest),
    foreign key (repository, digest) references links (repository, digest)
) strict;

create index manifests_by_subject on manifests (repository, subject, digest) where subject <> '';

-- Every reference of a manifest but its subject, whether the child is here or not. present is the child once more if it
-- was here when the manifest was put, and holds its link.
create table edges (
    parent     integer not null references manifests (id),
    child      text not null,
    repository integer not null, -- the parent's
    present    text,
    primary key (parent, child),
    foreign key (repository, present) references links (repository, digest)
) strict, without rowid;

-- The edges to a child are in the first of these or in the second one.
create index edges_by_present on edges (repository, present) where present is not null;
create index edges_by_absent on edges (repository, child) where present is null;

create table tags (
    repository integer not null, -- the manifest's
    name       text not null,
    manifest   integer not null references manifests (id),
    primary key (repository, name)
) strict, without rowid;

create index tags_by_manifest on tags (manifest);

-- Uploads under way, and the tombstones of finished ones. The columns are the fields of the session.
create table sessions (
    id            text primary key,
    repository    text not null,
    state         integer not null,
    version       integer not null,
    algorithm     text not null,
    digest        text not null,
    started       integer not null,
    touched       integer not null,
    reserved_blob text not null,
    reserved_tail text not null,
    durable       integer not null,
    parts_end     integer not null,
    hash          blob,
    parts_hash    blob,
    multipart_key text not null,
    multipart_id  text not null,
    part_size     integer not null,
    last_part     integer not null,
    inline        blob
) strict;

-- Parts of an upload that are durable. They are rows of their own so that a save writes only new ones.
create table parts (
    session text not null references sessions (id) on delete cascade,
    number  integer not null,
    start   integer not null,
    size    integer not null,
    tag     text not null,
    primary key (session, number)
) strict, without rowid;

-- Objects with bytes of an upload that are not in a part yet, in their order.
create table tails (
    session text not null references sessions (id) on delete cascade,
    ordinal integer not null,
    key     text not null,
    size    integer not null,
    primary key (session, ordinal)
) strict, without rowid;

-- Content of a repository that nothing may refer to, to be reviewed: a superset of what nothing refers to.
create table candidates (
    repository text not null,
    digest     text not null,
    touched    integer not null,
    primary key (repository, digest)
) strict, without rowid;

create index candidates_by_touched on candidates (touched, repository, digest);

-- Objects that no row names any more, to be deleted.
create table garbage (
    key       text primary key,
    condemned integer not null
) strict, without rowid;

create index garbage_by_condemned on garbage (condemned, key);
