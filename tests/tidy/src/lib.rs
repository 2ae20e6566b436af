//! The rules of the repository, as tests: which crate may use which, how long files and functions get, which words
//! never appear, what is documented.
//!
//! Every rule is a plain function from texts to the list of what breaks it, so that each is tested on a bad sample as
//! well as run over the repository. A rule that is in the way is changed here, in the open, with a reason beside it.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod crates;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod source;
#[cfg(test)]
mod words;
