//! The rules that go for all routes, a module for each row of the contract's table.

mod auth;
mod bodies;
mod bounds;
mod cors;
mod freshness;
mod ids;
mod limit;
mod methods;
mod names;
mod order_of_checks;
mod pages;
mod permissions;
mod quotas;
mod rate_limit;
mod sizes;
mod tenancy;
