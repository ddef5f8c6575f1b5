# Everything that is done to this project, on a Debian or Ubuntu machine with Rust (rustup) and, for the lab, root.
# Each target works by itself and can be run again; each says what it does.

SHELL := /bin/bash
PROFILE ?= release
export PROFILE

.PHONY: help check unit model fuzz test demo lab-up lab-down bench image crds

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

check: ## Format, lints, licences, CRDs, chart and kustomize base: nothing is built but what these need
	@scripts/check

unit: ## Tests that need neither root nor a cluster
	@scripts/unit

model: ## Search all that two regions may do with a claim, in larger bounds than make unit: minutes; target/model/report.json
	@scripts/model

fuzz: ## Hostile bytes for what reads a vault, a minute for each target
	@scripts/fuzz 60

test: ## check, unit, a short fuzz, then the lab tests: two real clusters on this machine (root; the first time 45 minutes of CPU time for building)
	@scripts/test

demo: ## An application loses its region and comes back in the other one, measured from outside (root)
	@scripts/demo

lab-up: ## Start the lab: two Kubernetes regions, object storage and DNS on this machine (root)
	@tests/lab/lab up

lab-down: ## Stop the lab, and leave nothing behind
	@tests/lab/lab down

bench: ## Figures against peers and limits (restic, bare requests, promises): half an hour; target/bench/report.json
	@scripts/bench

image: ## The container image as an OCI archive, target/image/reprise.tar (PROFILE=release or dev)
	@scripts/image

crds: ## Write the CRDs from the types: crds/ and the chart's copy, and the kustomize base from the chart
	@scripts/crds
