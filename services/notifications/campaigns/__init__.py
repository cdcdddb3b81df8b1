"""One mail to many: drafted, frozen into a ledger of recipients, sent in batches, counted."""
