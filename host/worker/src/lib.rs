//! The worker role: slots, turns and budgets.
