"""Rendering and judging the manifests of deploy/k8s without a cluster and without a network."""
