//! What all models have in common.

/// Runs every interleaving with up to three preemptions: what lies beyond takes hours, and bugs of this kind need two.
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}
