-- What PostgreSQL 10 knows.
create schema shop;
create type shop.status as enum ('new', 'paid');
create domain shop.email as text check (value ~ '@');
create function shop.touch() returns trigger language plpgsql as $$ begin return new; end $$;
create table shop.customer (
    id bigint generated always as identity primary key, email shop.email not null, name text not null,
    boss bigint references shop.customer deferrable initially deferred
);
create unique index customer_email_key on shop.customer (lower(email::text)) where id > 0;
create table shop.product (id serial primary key, sku text unique, price numeric(12, 2) check (price > 0)) with (fillfactor = 70);
create table shop.orders (id bigint not null, day date not null, customer bigint not null, status shop.status) partition by range (day);
create table shop.orders_2024 partition of shop.orders (primary key (id)) for values from ('2024-01-01') to ('2025-01-01');
create table shop.orders_2025 partition of shop.orders (primary key (id)) for values from ('2025-01-01') to ('2026-01-01');
alter table shop.orders_2024 add foreign key (customer) references shop.customer;
create index on shop.orders_2025 (customer);
create statistics shop.orders_stats (dependencies) on id, day from shop.orders_2024;
create view shop.by_key as select c.id, c.name, count(o.id) from shop.customer c left join shop.orders o on o.customer = c.id group by c.id;
create materialized view shop.stored as select * from shop.by_key;
create unique index stored_id on shop.stored (id);
create trigger touch before update on shop.customer for each row execute procedure shop.touch();
create rule kept as on delete to shop.product do instead nothing;
alter table shop.product enable row level security;
create policy cheap on shop.product for select using (price < 10);
comment on constraint product_sku_key on shop.product is 'one each';
