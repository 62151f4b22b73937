# `make test` sets up everything by itself and proves the project; the other targets are parts of it or go beyond it.

SHELL := bash
tools := target/tools
setup := tests/deployed/setup.sh
pytest := $(tools)/ministack/bin/python -m pytest -p no:cacheprovider

.PHONY: help test lint unit query template deployed permissions bench profile audit

help: ## say what there is
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

test: unit query template deployed ## everything: the code, the queries, the template, the stack deployed to a local AWS

lint: ## formats, lints, licences; the template by its three checkers
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	$(setup) sam checkov deny
	$(tools)/deny/bin/cargo-deny --all-features check bans licenses sources
	PATH="$$PWD/$(tools)/sam/bin:$$PATH" SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 sam validate --lint
	$(tools)/sam/bin/cfn-lint template.yaml infra/*.yaml
	$(tools)/checkov/bin/checkov --compact --quiet --skip-download --framework cloudformation --file template.yaml infra/*.yaml

unit: ## the Rust tests
	cargo test --locked

query: ## the queries of docs/QUERY.md, on a demo's archive
	tests/query/run.sh

template: ## what the template says
	$(setup) ministack
	$(pytest) -q tests/deployed/test_template.py

deployed: ## the real template and binaries on a local AWS with IAM enforced
	$(setup) sam ministack aws
	$(pytest) -v --durations=0 --durations-min=1 $(patsubst %,tests/deployed/test_%.py,deployed operate runbook)

permissions: ## beyond `make test`: without any one of its permissions a probe of the stack fails
	$(setup) sam ministack
	$(pytest) -v tests/deployed/test_permissions.py

bench: ## beyond `make test`: how fast it is, beside its peers; docs/PERFORMANCE.md explains (three minutes, and half an hour of builds before the first)
	python3 benches/bench.py

profile: ## beyond `make test`: where the copy's processor time goes, as `perf` sees it (ten minutes, nearly all of them to build)
	python3 benches/profile_copy.py

audit: ## beyond `make test`: how long `status` and `verify` take, in how much memory (about five minutes)
	cargo build --release --locked --bin insights-archive
	python3 benches/audit.py
