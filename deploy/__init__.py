"""Ways to run Holdfast: on one machine (`local`), in a cluster (`k8s`), as images (`docker`)."""
