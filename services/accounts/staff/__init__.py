"""Who works here: inviting, changing what somebody may do, suspending, removing."""
