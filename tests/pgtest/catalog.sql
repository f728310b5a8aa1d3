-- Everything that a database holds besides rows, one line for each property that a person could notice. It reads columns
-- that some versions lack by way of to_jsonb.
with space as (
    select oid as id, nspname from pg_namespace
    where nspname !~ '^pg_' and nspname not in ('information_schema', 'dts_sync')
), member as (
    select classid, objid from pg_depend where deptype = 'e'
), class as (
    select c.*, c.oid as id, c.oid::regclass::text as name, to_jsonb(c) as j, c.relkind in ('i', 'I') as isindex
    from pg_class c join space s on s.id = c.relnamespace
    where c.relkind <> 't' and (1259, c.oid) not in (select * from member)
), proc as (
    select p.*, p.oid as id, p.oid::regprocedure::text as name, coalesce(to_jsonb(p) ->> 'prokind', case when (to_jsonb(p) ->> 'proisagg')::boolean then 'a' when (to_jsonb(p) ->> 'proiswindow')::boolean then 'w' else 'f' end) as kind
    from pg_proc p join space s on s.id = p.pronamespace
    where (1255, p.oid) not in (select * from member)
), type as (
    select t.*, t.oid as id, t.oid::regtype::text as name, to_jsonb(t) as j
    from pg_type t join space s on s.id = t.typnamespace
    where (1247, t.oid) not in (select * from member) and t.typtype not in ('c', 'm') and t.typcategory <> 'A'
)
select 'schema', quote_ident(nspname), '' from space
union all
select 'relation', name, jsonb_strip_nulls(jsonb_build_object(
    'kind', relkind, 'persistence', case when relkind <> 'S' then relpersistence end, 'options', (select jsonb_agg(o order by o) from unnest(reloptions) o),
    'toast', (select jsonb_agg(o order by o) from pg_class t, unnest(t.reloptions) o where t.oid = class.reltoastrelid),
    'security', nullif(relrowsecurity, false), 'forced', nullif(relforcerowsecurity, false),
    'identity', case when relkind in ('r', 'p') then nullif(relreplident, 'd') end, 'partition', pg_get_expr(relpartbound, id),
    'key', case when relkind = 'p' then pg_get_partkeydef(id) end, 'type', nullif(reloftype, 0)::regtype::text,
    'method', case when relkind = 'r' then (select amname from pg_am where pg_am.oid = relam and amname <> 'heap') end,
    'definition', case when relkind in ('v', 'm') then pg_get_viewdef(id) end,
    'server', (select array[srvname::text] || ftoptions from pg_foreign_table f join pg_foreign_server v on v.oid = f.ftserver where ftrelid = class.id)))::text
from class where not isindex
union all
select 'column', class.name || '.' || quote_ident(attname), jsonb_strip_nulls(jsonb_build_object(
    'type', format_type(atttypid, atttypmod), 'notnull', nullif(attnotnull, false), 'default', pg_get_expr(adbin, adrelid),
    'identity', nullif(attidentity::text, ''), 'generated', nullif(to_jsonb(a) ->> 'attgenerated', ''),
    'collation', (select collnamespace::regnamespace || '.' || collname from pg_collation l where l.oid = attcollation and l.oid <> (select typcollation from pg_type where pg_type.oid = atttypid)),
    'storage', case when relkind in ('r', 'p', 'm') and attstorage <> (select typstorage from pg_type where pg_type.oid = atttypid) then attstorage end,
    'compression', nullif(to_jsonb(a) ->> 'attcompression', ''), 'statistics', nullif(attstattarget, -1), 'options', attoptions::text, 'foreign', attfdwoptions::text,
    'inherited', nullif(attinhcount, 0), 'local', nullif(attislocal, true),
    'nr', (select count(*) from pg_attribute b where b.attrelid = a.attrelid and b.attnum between 1 and a.attnum and not b.attisdropped)))::text
from class join pg_attribute a on attrelid = class.id left join pg_attrdef on adrelid = attrelid and adnum = attnum
where not isindex and relkind <> 'S' and attnum > 0 and not attisdropped
union all
select 'parent', inhrelid::regclass::text, inhparent::regclass || ' ' || inhseqno from pg_inherits join class on class.id = inhrelid
union all
select 'constraint', coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text) || ' ' || quote_ident(conname),
    pg_get_constraintdef(c.oid) || case when connoinherit and contype = 'c' then ' no inherit' else '' end || ' ' || coninhcount || ' ' || conislocal || ' ' || convalidated
from pg_constraint c join space s on s.id = connamespace
where contype not in ('t', 'n') -- nor what the server makes for each partition that a foreign key refers to
    and not exists (select from pg_constraint p where p.oid = (to_jsonb(c) ->> 'conparentid')::oid and p.conrelid = c.conrelid)
union all
select 'index', class.name, pg_get_indexdef(class.id) || jsonb_build_object('clustered', indisclustered, 'identity', indisreplident, 'valid', indisvalid,
    'statistics', (select jsonb_agg(nullif(attstattarget, -1) order by attnum) from pg_attribute where attrelid = class.id))::text
from class join pg_index on indexrelid = class.id
union all
select 'sequence', class.name, jsonb_build_object('type', seqtypid::regtype::text, 'is', array[seqstart, seqincrement, seqmax, seqmin, seqcache], 'cycle', seqcycle,
    'owner', (select pg_describe_object(refclassid, refobjid, refobjsubid) || ' ' || deptype::text from pg_depend
        where classid = 1259 and objid = class.id and refclassid = 1259 and deptype in ('a', 'i')))::text
from class join pg_sequence on seqrelid = class.id
union all
select 'function', name, pg_get_functiondef(id) from proc where kind <> 'a'
union all
select 'aggregate', name, pg_get_function_result(id) || proparallel::text || (to_jsonb(a) - 'aggfnoid' - 'aggtranstype' - 'aggmtranstype' - 'aggsortop')::text
    || to_jsonb(array[aggtranstype, aggmtranstype]::regtype[]::text[])::text || aggsortop::regoperator::text
from proc join pg_aggregate a on aggfnoid = id
union all
select 'type', name, jsonb_build_object('type', typtype, 'length', typlen, 'byval', typbyval, 'category', typcategory, 'preferred', typispreferred, 'defined', typisdefined, 'delimiter', typdelim,
    'functions', array[typinput, typoutput, typreceive, typsend, typmodin, typmodout, typanalyze]::text[], 'element', typelem::regtype::text, 'align', typalign, 'storage', typstorage,
    'notnull', typnotnull, 'base', format_type(typbasetype, typtypmod), 'dimensions', typndims, 'collation', (select collnamespace::regnamespace || '.' || collname from pg_collation l where l.oid = typcollation), 'default', typdefault,
    'labels', (select jsonb_agg(enumlabel order by enumsortorder) from pg_enum where enumtypid = type.id),
    'range', (select array[rngsubtype::regtype::text, (select collnamespace::regnamespace || '.' || collname from pg_collation l where l.oid = rngcollation), opcname::text, rngcanonical::text, rngsubdiff::text] from pg_range join pg_opclass o on o.oid = rngsubopc where rngtypid = type.id))::text
from type
union all
select 'operator', o.oid::regoperator::text, jsonb_build_object('result', oprresult::regtype::text, 'code', oprcode::text, 'commutator', oprcom::regoperator::text, 'negator', oprnegate::regoperator::text,
    'restrict', oprrest::text, 'join', oprjoin::text, 'hash', oprcanhash, 'merge', oprcanmerge)::text
from pg_operator o join space s on s.id = oprnamespace where (2617, o.oid) not in (select * from member)
union all
select 'operator class', format('%I.%I %I', nspname, opcname, amname), jsonb_build_object('type', opcintype::regtype::text, 'default', opcdefault, 'stored', opckeytype::regtype::text,
    'family', (select format('%s.%I', opfnamespace::regnamespace, opfname) from pg_opfamily f where f.oid = opcfamily))::text
from pg_opclass o join space s on s.id = opcnamespace join pg_am m on m.oid = opcmethod where (2616, o.oid) not in (select * from member)
union all
select 'operator family', format('%I.%I %I', nspname, opfname, amname), jsonb_build_object(
    'operators', (select jsonb_agg(array[amopstrategy::text, amopopr::regoperator::text, amoppurpose::text, (select opfname::text from pg_opfamily b where b.oid = amopsortfamily)] order by amopstrategy, amopopr::regoperator::text) from pg_amop where amopfamily = f.oid),
    'functions', (select jsonb_agg(array[amprocnum::text, amproclefttype::regtype::text, amprocrighttype::regtype::text, amproc::regprocedure::text] order by amprocnum, amproc::regprocedure::text) from pg_amproc where amprocfamily = f.oid))::text
from pg_opfamily f join space s on s.id = opfnamespace join pg_am m on m.oid = opfmethod where (2753, f.oid) not in (select * from member)
union all
select 'cast', castsource::regtype || ' as ' || casttarget::regtype, castfunc::regprocedure || ' ' || castcontext::text || castmethod::text
from pg_cast c where c.oid >= 16384 and (2605, c.oid) not in (select * from member)
union all
select 'conversion', format('%I.%I', nspname, conname), (conforencoding, contoencoding, conproc, condefault)::text from pg_conversion c join space s on s.id = connamespace
union all
select 'collation', format('%I.%I', nspname, collname), jsonb_build_object('provider', collprovider, 'names', coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', collcollate || ' ' || collctype),
    'deterministic', coalesce(to_jsonb(c) ->> 'collisdeterministic', 'true'))::text
from pg_collation c join space s on s.id = collnamespace
union all
select 'text search parser', format('%I.%I', nspname, prsname), to_jsonb(array[prsstart, prstoken, prsend, prsheadline, prslextype]::text[])::text from pg_ts_parser p join space s on s.id = prsnamespace
union all
select 'text search template', format('%I.%I', nspname, tmplname), to_jsonb(array[tmplinit, tmpllexize]::text[])::text from pg_ts_template p join space s on s.id = tmplnamespace
union all
select 'text search dictionary', d.oid::regdictionary::text, jsonb_build_object('options', dictinitoption, 'template', (select tmplnamespace::regnamespace || '.' || tmplname from pg_ts_template t where t.oid = dicttemplate))::text
from pg_ts_dict d join space s on s.id = dictnamespace
union all
select 'text search configuration', c.oid::regconfig::text, jsonb_build_object('parser', (select prsnamespace::regnamespace || '.' || prsname from pg_ts_parser t where t.oid = cfgparser),
    'map', (select jsonb_agg(array[maptokentype::text, mapseqno::text, mapdict::regdictionary::text] order by maptokentype, mapseqno) from pg_ts_config_map where mapcfg = c.oid))::text
from pg_ts_config c join space s on s.id = cfgnamespace
union all
select 'access method', amname, amhandler || ' ' || amtype::text from pg_am where oid >= 16384 and (2601, oid) not in (select * from member)
union all
select 'rule', ev_class::regclass || ' ' || quote_ident(rulename), pg_get_ruledef(r.oid) || ev_enabled::text from pg_rewrite r join class on class.id = ev_class where rulename <> '_RETURN'
union all
select 'trigger', tgrelid::regclass || ' ' || quote_ident(tgname), pg_get_triggerdef(t.oid) || tgenabled::text from pg_trigger t join class on class.id = tgrelid where not tgisinternal
union all
select 'policy', polrelid::regclass || ' ' || quote_ident(polname), jsonb_build_object('command', polcmd, 'permissive', polpermissive, 'roles', polroles::regrole[]::text,
    'using', pg_get_expr(polqual, polrelid), 'check', pg_get_expr(polwithcheck, polrelid))::text
from pg_policy
union all
select 'event trigger', quote_ident(evtname), jsonb_build_object('event', evtevent, 'code', evtfoid::regprocedure::text, 'enabled', evtenabled, 'tags', evttags)::text from pg_event_trigger
union all
select 'statistics', format('%I.%I', nspname, stxname), pg_get_statisticsobjdef(x.oid) || ' ' || coalesce(nullif(to_jsonb(x) ->> 'stxstattarget', '-1'), '') from pg_statistic_ext x join space s on s.id = stxnamespace
union all
select 'extension', extname, extnamespace::regnamespace::text from pg_extension
union all
select 'wrapper', fdwname, array[fdwhandler::regproc::text, fdwvalidator::regproc::text, fdwoptions::text]::text from pg_foreign_data_wrapper where (2328, oid) not in (select * from member)
union all
select 'server', srvname, array[srvtype, srvversion, srvoptions::text]::text from pg_foreign_server
union all
select 'user mapping', srvname, array[usename::text, umoptions::text]::text from pg_user_mappings
union all
select 'comment', pg_describe_object(classoid, objoid, objsubid), description
from pg_description where objoid >= 16384 or classoid = 2612
union all
select 'owner', name, relowner::regrole::text from class where not isindex
union all
select 'owner', name, proowner::regrole::text from proc
union all
select 'owner', name, typowner::regrole::text from type
union all
select 'owner', quote_ident(s.nspname), nspowner::regrole::text from space s join pg_namespace n on n.oid = s.id
union all
select 'right', o.what, format('%s to %s%s', privilege_type, case when grantee = 0 then 'public' else grantee::regrole::text end, case when is_grantable then ' with grant option' else '' end)
from (
    select name as what, coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner)) as acl from class where not isindex
    union all
    select class.name || '.' || quote_ident(attname), attacl from class join pg_attribute on attrelid = class.id where attacl is not null
    union all
    select name, coalesce(proacl, acldefault('f', proowner)) from proc
    union all
    select name, coalesce(typacl, acldefault('T', typowner)) from type
    union all
    select 'schema ' || quote_ident(s.nspname), coalesce(nspacl, acldefault('n', nspowner)) from space s join pg_namespace n on n.oid = s.id where s.nspname <> 'public'
    union all
    select 'language ' || lanname, coalesce(lanacl, acldefault('l', lanowner)) from pg_language
    union all
    select 'server ' || srvname, coalesce(srvacl, acldefault('S', srvowner)) from pg_foreign_server
    union all
    select 'wrapper ' || fdwname, coalesce(fdwacl, acldefault('F', fdwowner)) from pg_foreign_data_wrapper
    union all
    select format('default %s %s %s', defaclrole::regrole, nullif(defaclnamespace, 0)::regnamespace, defaclobjtype), defaclacl from pg_default_acl
) o, aclexplode(o.acl)
where privilege_type <> 'MAINTAIN'
order by 1, 2, 3
