//! AWS: where its keys come from, the signature of a request, and what its refusals mean.

mod keys;
mod refusal;
mod sign;
mod shared_file;

pub(super) use keys::{AwsKeys, AwsSource, Environment};
pub(super) use refusal::{Refusal, code, meaning};
pub(super) use sign::Signer;
