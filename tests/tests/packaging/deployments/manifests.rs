//! The files themselves: their schemas, and that they fit together.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    container, list, manifest_files, objects, of_kind, python, repository, workloads, yaml,
};

/// The oldest and the newest version that is meant.
const KUBERNETES: [&str; 2] = ["1.30", "1.37"];

#[test]
fn kubernetes_takes_the_manifests() -> Result<()> {
    let files = manifest_files()?;
    for version in KUBERNETES {
        let mut arguments = vec!["-m", "kubernetes_validate", "--strict", "-k", version];
        arguments.extend(files.iter().filter_map(|file| file.to_str()));
        python(&arguments, "")?;
    }
    // It does find mistakes.
    let wrong = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let text = std::fs::read_to_string(repository("deploy/kubernetes/exec-server.yaml"))?;
    std::fs::write(
        wrong.path(),
        text.replace("readOnlyRootFilesystem", "readOnlyRoot"),
    )?;
    let path = wrong.path().to_str().context("path")?;
    let arguments = [
        "-m",
        "kubernetes_validate",
        "--strict",
        "-k",
        KUBERNETES[0],
        path,
    ];
    ensure!(python(&arguments, "").is_err(), "an unknown key is taken");
    Ok(())
}

#[test]
fn the_kustomization_lists_every_file() -> Result<()> {
    let [kustomization] = &yaml(&repository("deploy/kubernetes/kustomization.yaml"))?[..] else {
        anyhow::bail!("not one document");
    };
    let listed = list(&kustomization["resources"])
        .iter()
        .filter_map(Value::as_str);
    let files = manifest_files()?;
    let names = files.iter().filter_map(|file| file.file_name()?.to_str());
    assert_eq!(listed.collect::<BTreeSet<_>>(), names.collect());
    let all = objects()?;
    let images = workloads(&all)
        .into_iter()
        .map(|workload| container(workload).map(|c| &c["image"]));
    let images = images.collect::<Result<Vec<_>>>()?;
    for image in list(&kustomization["images"]) {
        ensure!(images.contains(&&image["name"]), "nothing uses {image}");
        assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"));
    }
    Ok(())
}

/// A label, port or volume that nobody has is no mistake of a schema.
#[test]
fn names_in_the_manifests_are_those_of_something() -> Result<()> {
    let all = objects()?;
    let workloads = workloads(&all);
    ensure!(workloads.len() == 3, "{} workloads", workloads.len());
    let labels = |workload: &Value| workload["spec"]["template"]["metadata"]["labels"].clone();
    let selected = |selector: &Value| -> Vec<&Value> {
        let has = |workload: &&&Value| {
            let labels = labels(workload);
            let exact = selector["matchLabels"].as_object().into_iter().flatten();
            let any = list(&selector["matchExpressions"]).iter();
            exact.clone().all(|(name, value)| labels[name] == *value)
                && any.clone().all(|rule| {
                    let name = rule["key"].as_str().unwrap_or_default();
                    list(&rule["values"]).contains(&labels[name])
                })
        };
        workloads.iter().filter(has).copied().collect()
    };
    for workload in &workloads {
        let name = &workload["metadata"]["name"];
        ensure!(selected(&workload["spec"]["selector"]).len() == 1, "{name}");
        let container = container(workload)?;
        let ports: Vec<_> = list(&container["ports"])
            .iter()
            .map(|port| &port["name"])
            .collect();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            ensure!(
                ports.contains(&&container[probe]["httpGet"]["port"]),
                "{name}: {probe}"
            );
        }
        let volumes = list(&workload["spec"]["template"]["spec"]["volumes"]).iter();
        let volumes = volumes.map(|volume| &volume["name"]);
        let claims = list(&workload["spec"]["volumeClaimTemplates"]).iter();
        let volumes = volumes.chain(claims.map(|claim| &claim["metadata"]["name"]));
        let volumes: BTreeSet<_> = volumes.filter_map(Value::as_str).collect();
        let mounts = list(&container["volumeMounts"]).iter();
        let mounts: BTreeSet<_> = mounts.filter_map(|mount| mount["name"].as_str()).collect();
        assert_eq!(mounts, volumes, "{name}");
        if workload["kind"] == "StatefulSet" {
            let mut services = of_kind(&all, "Service").into_iter();
            let service = &workload["spec"]["serviceName"];
            ensure!(
                services.any(|s| s["metadata"]["name"] == *service),
                "{name}: {service}"
            );
        }
    }
    for service in of_kind(&all, "Service") {
        let selector = json!({"matchLabels": service["spec"]["selector"]});
        let [workload] = selected(&selector)[..] else {
            anyhow::bail!("{} selects nothing", service["metadata"]["name"]);
        };
        for port in list(&service["spec"]["ports"]) {
            let mut ports = list(&container(workload)?["ports"]).iter();
            ensure!(
                ports.any(|there| there["name"] == port["targetPort"]),
                "{port}"
            );
        }
    }
    for budget in of_kind(&all, "PodDisruptionBudget") {
        ensure!(selected(&budget["spec"]["selector"]).len() == 1, "{budget}");
    }
    for policy in of_kind(&all, "NetworkPolicy") {
        let spec = &policy["spec"];
        let chosen = selected(&spec["podSelector"]);
        ensure!(!chosen.is_empty(), "{policy}");
        for rule in list(&spec["ingress"]) {
            for port in list(&rule["ports"])
                .iter()
                .filter(|port| port["port"].is_string())
            {
                for workload in &chosen {
                    let mut ports = list(&container(workload)?["ports"]).iter();
                    ensure!(ports.any(|there| there["name"] == port["port"]), "{policy}");
                }
            }
        }
        for rule in list(&spec["egress"]) {
            for to in list(&rule["to"])
                .iter()
                .filter(|to| to["podSelector"].is_object())
            {
                ensure!(!selected(&to["podSelector"]).is_empty(), "{policy}");
            }
        }
    }
    Ok(())
}

#[test]
fn every_container_is_shut_in() -> Result<()> {
    let all = objects()?;
    for workload in workloads(&all) {
        let (name, pod) = (
            &workload["metadata"]["name"],
            &workload["spec"]["template"]["spec"],
        );
        let context = &container(workload)?["securityContext"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{name}");
    }
    let [compose] = &yaml(&repository("deploy/compose/compose.yaml"))?[..] else {
        anyhow::bail!("not one document");
    };
    for (name, service) in compose["services"].as_object().context("no services")? {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(
            service["security_opt"],
            json!(["no-new-privileges:true"]),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn compose_takes_its_file() -> Result<()> {
    let script = "
import importlib.util, json, pathlib, sys, jsonschema, yaml
directory = importlib.util.find_spec('compose').submodule_search_locations[0]
schema = json.loads((pathlib.Path(directory) / 'config/compose_spec.json').read_text())
jsonschema.validate(yaml.safe_load(sys.stdin), schema)
";
    let file = repository("deploy/compose/compose.yaml");
    let text = std::fs::read_to_string(&file)?;
    python(&["-c", script], &text)?;
    let wrong = text.replace("read_only", "readonly");
    ensure!(
        python(&["-c", script], &wrong).is_err(),
        "an unknown key is taken"
    );

    let [compose] = &yaml(&file)?[..] else {
        anyhow::bail!("not one document");
    };
    let dockerfile = std::fs::read_to_string(repository("Dockerfile"))?;
    for (name, service) in compose["services"].as_object().context("no services")? {
        let context = service["build"]["context"].as_str().context("no context")?;
        let root = file.parent().unwrap_or(Path::new("")).join(context);
        ensure!(
            root.join("Dockerfile").is_file(),
            "{name}: {context} has no Dockerfile"
        );
        let target = service["build"]["target"].as_str().context("no target")?;
        ensure!(
            dockerfile.contains(&format!(" AS {target}\n")),
            "no target {target}"
        );
        for secret in list(&service["secrets"]) {
            let secret = secret.as_str().unwrap_or_default();
            ensure!(compose["secrets"][secret].is_object(), "no secret {secret}");
        }
        for volume in list(&service["volumes"]) {
            let volume = volume.as_str().and_then(|volume| volume.split(':').next());
            let known = compose["volumes"].get(volume.unwrap_or_default());
            ensure!(known.is_some(), "{name}: {volume:?}");
        }
    }
    Ok(())
}
