"""Checks what the Helm chart renders, with every helm that is named: the values of ci/ and some that are made here.

    python3 chart.py WORK_FOLDER HELM...

Leaves in WORK_FOLDER, for each of the values, chart-NAME.yaml (everything) and config-NAME.yaml (the configuration file), and
hub-rules.yaml, the rules as they name the hub of full-values.yaml.
"""

import pathlib
import re
import subprocess
import sys

import yaml

work, helms = pathlib.Path(sys.argv[1]), sys.argv[2:]
here = pathlib.Path(__file__).parent
chart = here / "helm" / "tidings"
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def helm(binary, *arguments):
    return subprocess.run([binary, *arguments], capture_output=True, text=True, cwd=here)


class Rendered:
    """The objects that one release consists of."""

    def __init__(self, binary, values=None, release="hub", namespace="jobs", extra=None):
        arguments = ["template", release, str(chart), "--namespace", namespace]
        if values:
            arguments += ["-f", str(chart / "ci" / f"{values}-values.yaml")]
        if extra is not None:
            file = work / "extra-values.yaml"
            file.write_text(yaml.safe_dump(extra))
            arguments += ["-f", str(file)]
        done = helm(binary, *arguments)
        self.refused, self.text = done.stderr if done.returncode else None, done.stdout
        self.objects = [] if self.refused else [made for made in yaml.safe_load_all(done.stdout) if made]

    def one(self, kind):
        found = [made for made in self.objects if made["kind"] == kind and not made["metadata"]["name"].endswith("-dashboard")]
        assert len(found) == 1, f"{len(found)} objects are a {kind}: {self.refused or [made['kind'] for made in self.objects]}"
        return found[0]

    def none(self, kind):
        return all(made["kind"] != kind for made in self.objects)

    @property
    def template(self):
        return self.one("StatefulSet")["spec"]["template"]

    @property
    def pod(self):
        return self.template["spec"]

    @property
    def container(self):
        return self.pod["containers"][0]

    @property
    def config(self):
        return yaml.safe_load(self.one("ConfigMap")["data"]["tidings.yaml"])

    @property
    def checksum(self):
        return self.template["metadata"]["annotations"]["checksum/config"]


def same(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def has(found, **wanted):
    same({key: found.get(key) for key in wanted}, wanted)


def what_the_user_says_of_the_server_holds(binary):
    hub = Rendered(binary, extra={"config": {"server": {"allowed_hosts": ["a.example", "10.9.8.7"], "listen": "0.0.0.0:9000", "token_file": "/t/token"}}})
    same(hub.config["server"]["allowed_hosts"], ["a.example", "10.9.8.7"])
    same(hub.config["server"]["listen"], "0.0.0.0:9000")
    same(hub.config["server"]["token_file"], "/t/token")
    assert {"name": "api", "containerPort": 9000} in hub.container["ports"]
    assert "tidings-token" not in hub.text, "a Secret is mounted that is not used"
    # The environment wins over the file, so it says nothing that the file could say.
    same([entry["name"] for entry in hub.container["env"] if entry["name"].startswith("TIDINGS_")], ["TIDINGS_CONFIG"])
    assert Rendered(binary, extra={"config": {"server": {"listen": "unix:/run/api.sock"}}}).refused


def the_names_of_the_service_are_allowed_in_any_namespace(binary):
    # Rendered for one namespace, as the kustomization is, and applied to another.
    hub = Rendered(binary, extra={"clusterDomain": "corp.example"})
    name = hub.one("Service")["metadata"]["name"]
    env = {entry["name"]: entry for entry in hub.container["env"]}
    same(env["POD_NAMESPACE"]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.namespace")
    hosts = [argument.removeprefix("--allowed-host=").replace("$(POD_NAMESPACE)", "elsewhere") for argument in hub.container["args"]]
    for suffix in ["", ".elsewhere", ".elsewhere.svc", ".elsewhere.svc.corp.example"]:
        assert name + suffix in hosts, f"{name}{suffix} is not in {hosts}"
    assert "jobs" not in hub.text, "the namespace of the rendering is baked in"


def every_interface_is_listened_on(binary):
    hub = Rendered(binary)
    has(hub.config["server"], listen="[::]:8787", admin_listen="[::]:9464", token_file="/run/secrets/tidings-token/token")
    same(hub.one("Service")["spec"]["ipFamilyPolicy"], "PreferDualStack")


def only_the_sources_that_are_named_are_there(binary):
    default, own = Rendered(binary), Rendered(binary, "own-source")
    same(list(default.config["sources"]), ["retab"])
    assert any(mount["mountPath"] == "/run/secrets/retab" for mount in default.container["volumeMounts"])
    same(list(own.config["sources"]), ["mine_v2"])
    assert "retab" not in own.text, "what belongs to a source that is not there is mounted"
    same(own.config["server"]["allowed_hosts"], ["jobs.internal", "10.20.30.40"])
    # One that is only tuned keeps its key; one that has a key, or a server that may ask for none, gets no other.
    tuned = {"config": {"sources": {"retab": {"max_in_flight": 5}}}}
    hub = Rendered(binary, extra=tuned)
    same(hub.config["sources"]["retab"], {"api_key_file": "/run/secrets/retab/api-key", "max_in_flight": 5})
    assert "secretName: \"retab\"" in hub.text
    keyed = tuned | {"extraEnv": [{"name": "RETAB_API_KEY", "value": "k"}]}
    for values in [keyed, {"config": {"sources": {"retab": {"api_key_file": "/k"}}}}, {"config": {"sources": {"retab": {"base_url": "http://a"}}}}]:
        assert "secretName: \"retab\"" not in Rendered(binary, extra=values).text, f"{values} needs no Secret"


def users_and_groups_are_values(binary):
    has(Rendered(binary).pod["securityContext"], runAsUser=65532, runAsGroup=65532, fsGroup=65532, runAsNonRoot=True)
    has(Rendered(binary, "own-source").pod["securityContext"], runAsUser=1000660000, fsGroup=1000660001)
    hub = Rendered(binary, "openshift")
    same(set(hub.pod["securityContext"]) & {"runAsUser", "runAsGroup", "fsGroup"}, set())
    modes = {volume["secret"]["defaultMode"] for volume in hub.pod["volumes"] if "secret" in volume}
    same(modes, {0o444})


def numbers_stay_numbers(binary):
    hub = Rendered(binary, "own-source")
    same(hub.pod["terminationGracePeriodSeconds"], 1000000)
    source = hub.config["sources"]["mine_v2"]
    same((source["max_in_flight"], source["max_requests_per_second"], source["include_request"]), (1000000, 0.0000015, False))
    same(hub.config["sinks"]["app"]["headers"], {"X-Number": "1e3", "X-Octal": "0123"})
    left = re.sub(r"max_requests_per_second: 1.5e-06", "", hub.text)
    assert not re.search(r"\de[+-]\d", left), "a number is written as a float"


def every_value_arrives(binary):
    hub = Rendered(binary, "full")
    pod, container, claims = hub.pod, hub.container, hub.one("StatefulSet")["spec"]["volumeClaimTemplates"]
    same(container["image"], "registry.example.com/tidings@sha256:" + "0123456789abcdef" * 4)
    same(hub.config["server"]["allowed_hosts"], ["jobs.internal", "jobs.example.com"])
    same(hub.config["log"], {"level": "debug", "format": "json"})
    rule = hub.one("Ingress")["spec"]["rules"][0]
    same((rule["host"], rule["http"]["paths"][0]["backend"]["service"]), ("jobs.example.com", {"name": "hub-tidings", "port": {"name": "api"}}))
    has(hub.one("Ingress")["spec"], ingressClassName="nginx", tls=[{"secretName": "jobs-tls", "hosts": ["jobs.example.com"]}])
    policy = hub.one("NetworkPolicy")["spec"]
    same(policy["policyTypes"], ["Ingress", "Egress"])
    same(policy["podSelector"]["matchLabels"], hub.one("StatefulSet")["spec"]["selector"]["matchLabels"])
    same([rule["ports"][0]["port"] for rule in policy["ingress"]], ["api", "admin"])
    same(hub.one("ServiceAccount")["metadata"]["annotations"], {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/tidings"})
    has(hub.one("Service")["spec"], type="LoadBalancer", ipFamilyPolicy="SingleStack")
    same(hub.one("Service")["metadata"]["annotations"], {"example.com/internal": "true"})
    same(claims[0]["spec"], {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}})
    same(claims[0]["metadata"]["annotations"], {"example.com/backup": "daily"})
    has(pod, priorityClassName="important", nodeSelector={"kubernetes.io/os": "linux"}, serviceAccountName="hub-tidings")
    same(pod["tolerations"][0]["key"], "jobs")
    assert "nodeAffinity" in pod["affinity"]
    assert {"name": "archive", "mountPath": "/archive"} in container["volumeMounts"]
    assert {"name": "archive", "persistentVolumeClaim": {"claimName": "archive"}} in pod["volumes"]
    assert {"name": "RUST_LOG", "value": "info"} in container["env"]
    same(container["envFrom"], [{"configMapRef": {"name": "more", "optional": True}}])
    assert "readinessProbe" not in container
    has(container["startupProbe"], failureThreshold=600, periodSeconds=1, httpGet={"path": "/readyz", "port": "admin"})
    has(container["livenessProbe"], timeoutSeconds=3, failureThreshold=6)
    same(hub.template["metadata"]["labels"]["example.com/tier"], "jobs")
    same(hub.template["metadata"]["annotations"]["example.com/team"], "platform")
    assert any(mount["mountPath"] == "/run/secrets/api.token" for mount in container["volumeMounts"])
    same(hub.config["server"]["token_file"], "/run/secrets/api.token/value.txt")
    own = Rendered(binary, "own-source")
    assert "volumeClaimTemplates" not in own.one("StatefulSet")["spec"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "my.claim"}} in own.pod["volumes"]
    assert own.none("ServiceAccount") and own.pod["serviceAccountName"] == "robot"
    # Nothing is said twice, whatever the user calls his labels.
    labelled = Rendered(binary, extra={"podLabels": {"app.kubernetes.io/name": "mine", "tidings.dev/metrics": "false", "team": "a"}})
    wanted = {"app.kubernetes.io/name": "tidings", "app.kubernetes.io/instance": "hub", "tidings.dev/metrics": "false", "team": "a"}
    same(labelled.template["metadata"]["labels"], wanted)
    same(labelled.text.count("tidings.dev/metrics"), 1)
    default = Rendered(binary)
    assert default.none("Ingress") and default.none("NetworkPolicy") and default.none("PodMonitor")
    same(Rendered(binary, "openshift").one("NetworkPolicy")["spec"]["policyTypes"], ["Ingress"])


def replicas_share_a_database(binary):
    hub = Rendered(binary, "postgres")
    spec, pod, container = hub.one("StatefulSet")["spec"], hub.pod, hub.container
    has(spec, replicas=3, podManagementPolicy="Parallel")
    assert "volumeClaimTemplates" not in spec and "persistentVolumeClaimRetentionPolicy" not in spec
    assert {"name": "data", "emptyDir": {}} in pod["volumes"]
    same(hub.config["store"], {"type": "postgres", "path": "/data/store", "url_file": "/run/secrets/tidings-postgres/url"})
    assert any(mount["mountPath"] == "/run/secrets/tidings-postgres" for mount in container["volumeMounts"])
    env = {entry["name"]: entry for entry in container["env"]}
    same(env["TIDINGS_STORE__REPLICA"]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name")
    same(env["POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP")
    same(env["TIDINGS_STORE__ADVERTISE"]["value"], "http://$(POD_IP):8787")
    names = [entry["name"] for entry in container["env"]]
    assert names.index("POD_IP") < names.index("TIDINGS_STORE__ADVERTISE"), "a variable is used before it is set"
    selector = spec["selector"]["matchLabels"]
    same(hub.one("PodDisruptionBudget")["spec"], {"maxUnavailable": 1, "selector": {"matchLabels": selector}})
    spread = pod["topologySpreadConstraints"]
    same([one["topologyKey"] for one in spread], ["kubernetes.io/hostname", "topology.kubernetes.io/zone"])
    assert all(one["labelSelector"] == {"matchLabels": selector} for one in spread)
    policy, own = hub.one("NetworkPolicy")["spec"], {"podSelector": {"matchLabels": selector}}
    same(policy["ingress"][0]["from"], [own, {"podSelector": {}}])
    same(policy["egress"][0], {"ports": [{"port": "api"}], "to": [own]})
    assert 'pod=~\\"hub-tidings-[0-9]+\\"' in hub.text or 'pod=~"hub-tidings-[0-9]+"' in hub.text
    one = Rendered(binary, "postgres", extra={"replicas": 1})
    assert one.none("PodDisruptionBudget") and "topologySpreadConstraints" not in one.pod
    given = {"config": {"store": {"url_file": "/run/secrets/db/url"}}}
    assert "tidings-postgres" not in Rendered(binary, "postgres", extra=given).text
    own = {"postgres": {"advertise": "http://[$(POD_IP)]:8787"}, "topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]}
    own = Rendered(binary, "postgres", extra=own)
    assert {"name": "TIDINGS_STORE__ADVERTISE", "value": "http://[$(POD_IP)]:8787"} in own.container["env"]
    same([one["topologyKey"] for one in own.pod["topologySpreadConstraints"]], ["rack"])
    for values, said in [
        ({"replicas": 2, "config": {"store": {"type": "sled"}}}, "need config.store.type: postgres"),
        ({"config": {"store": {"replica": "a"}}}, "config.store.replica"),
        ({"config": {"store": {"advertise": "http://a:1"}}}, "config.store.advertise"),
        ({"persistence": {"existingClaim": "mine"}}, "persistence.existingClaim"),
    ]:
        refused = Rendered(binary, "postgres", extra=values).refused
        assert refused and said in refused, f"{values}: {refused}"
    assert "need config.store.type: postgres" in (Rendered(binary, extra={"replicas": 2}).refused or "")


def names_fit(binary):
    long = "a" * 50 + "-bc"
    releases = ["hub", "my.hub", "1st", "123", "1e3", "true", "tidings", "my-tidings.eu", long, long[:-1] + "d", "x" * 45 + "tidings"]
    names = {}
    for release in releases:
        hub = Rendered(binary, release=release, extra={"monitoring": {"dashboard": True}})
        name = hub.one("StatefulSet")["metadata"]["name"]
        # 52 and a revision's suffix are the 63 of a label.
        assert DNS_LABEL.fullmatch(name) and len(name) <= 52, f"{release}: {name}"
        assert name not in names.values(), f"{release} is called {name}, as another release is"
        names[release] = name
        for made in hub.objects:
            assert made["metadata"]["name"].startswith(name) and len(made["metadata"]["name"]) <= 63, made["metadata"]["name"]
            for key, value in made["metadata"]["labels"].items():
                assert isinstance(value, str) and len(value) <= 63, f"{release}: {key}: {value!r}"
    same((names["tidings"], names["my.hub"], names["my-tidings.eu"]), ("tidings", "my-hub-tidings", "my-tidings-eu"))
    overridden = Rendered(binary, extra={"fullnameOverride": "jobs.hub", "nameOverride": "jobs"})
    same(overridden.one("Service")["metadata"]["name"], "jobs-hub")
    same(overridden.one("Service")["spec"]["selector"], {"app.kubernetes.io/name": "jobs", "app.kubernetes.io/instance": "hub"})
    same(Rendered(binary, extra={"nameOverride": "jobs"}).one("Service")["metadata"]["name"], "hub-jobs")
    volumes = [volume["name"] for volume in Rendered(binary, "own-source").pod["volumes"]]
    assert all(DNS_LABEL.fullmatch(name) and len(name) <= 63 for name in volumes) and len(set(volumes)) == len(volumes), volumes


def a_changed_configuration_rolls_the_pod_where_it_has_to(binary):
    now = Rendered(binary, "own-source").checksum

    def with_config(**config):
        return Rendered(binary, "own-source", extra={"config": config}).checksum

    for name, config in {
        "sinks": {"sinks": {"more": {"type": "disk", "dir": "/data/out"}}},
        "sources": {"sources": {"more": {"type": "openai-batch"}}},
        "routes": {"routes": [{"to": ["app"]}]},
        "callbacks": {"callbacks": {"enabled": False}},
        "page": {"page": {"enabled": False}},
        "watch": {"watch": ["job_1"]},
        "log.level": {"log": {"level": "debug"}},
        "store.retention": {"store": {"retention": "1d"}},
    }.items():
        assert with_config(**config) == now, f"a change of {name} rolls the Pod, and the daemon takes it up by itself"
    for name, config in {
        "server.drain": {"server": {"drain": "5s"}},
        "server.allowed_hosts": {"server": {"allowed_hosts": ["other.example"]}},
        "store.cache": {"store": {"cache": "32MiB"}},
        "log.format": {"log": {"format": "text"}},
        "otlp": {"otlp": {"endpoint": "http://collector:4318"}},
    }.items():
        assert with_config(**config) != now, f"a change of {name} does not roll the Pod, and would not hold"


def monitoring_finds_hubs_and_sidecars(binary):
    hub = Rendered(binary, "full")
    monitor = hub.one("PodMonitor")["spec"]
    wanted, endpoint = monitor["selector"]["matchLabels"], monitor["podMetricsEndpoints"][0]
    kept = next(rule for rule in endpoint["relabelings"] if rule.get("action") == "keep")
    same(kept["sourceLabels"], ["__meta_kubernetes_pod_container_name"])
    templates = [hub.template]
    for name in ["sidecar", "sidecar-plain"]:
        built = yaml.safe_load_all((work / f"{name}-built.yaml").read_text())
        templates += [made["spec"]["template"] for made in built if made["kind"] == "Deployment"]
    same(len(templates), 3)
    for template in templates:
        labels, spec = template["metadata"]["labels"], template["spec"]
        assert wanted.items() <= labels.items(), f"{wanted} does not select {labels}"
        containers = [one for one in spec.get("initContainers", []) + spec["containers"] if re.fullmatch(kept["regex"], one["name"])]
        assert endpoint["port"] in [port["name"] for port in containers[0]["ports"]]
    same(monitor["namespaceSelector"], {"matchNames": ["apps", "jobs"]})
    everywhere = Rendered(binary, extra={"monitoring": {"podMonitor": True}})
    same(everywhere.one("PodMonitor")["spec"]["namespaceSelector"], {"any": True})
    rules = hub.one("PrometheusRule")["spec"]
    (work / "hub-rules.yaml").write_text(yaml.safe_dump(rules))


def mistakes_are_refused(binary):
    for values in [
        {"nonsense": 1},
        {"image": {"digest": "latest"}},
        {"persistence": {"accessModes": []}},
        {"podAnnotations": {"example.com/port": 9464}},
        {"extraEnv": [{"name": "PORT", "value": 80}]},
        {"livenessProbe": {"httpGet": {"path": "/"}}},
        {"podSecurityContext": {"runAsUser": "root"}},
        {"ingress": {"host": "a.example"}},
        {"service": {"port": 70000}},
        {"service": None},
        {"ingress": {"enabled": True}},
        {"config": {"server": {"allowed_hosts": "a.example"}}, "ingress": {"enabled": True, "hosts": ["b.example"]}},
    ]:
        assert Rendered(binary, extra=values).refused, f"{values} is taken"


def the_notes_tell_how_to_reach_it(binary):
    if helm(binary, "version", "--short").stdout.startswith("v3"):
        return  # it asks a cluster before it shows them
    said = helm(binary, "install", "hub", str(chart), "--namespace", "jobs", "--dry-run=client", "-f", str(chart / "ci" / "full-values.yaml"))
    notes = said.stdout.partition("NOTES:")[2]
    for part in ["http://hub-tidings.jobs.svc:80\n", "https://jobs.example.com\n", "api.token, retab, openai, webhook", "--namespace jobs exec hub-tidings-0"]:
        assert part in notes, f"{part!r} is not in the notes: {said.stderr}{notes}"


CHECKS = [
    what_the_user_says_of_the_server_holds,
    the_names_of_the_service_are_allowed_in_any_namespace,
    every_interface_is_listened_on,
    only_the_sources_that_are_named_are_there,
    users_and_groups_are_values,
    numbers_stay_numbers,
    every_value_arrives,
    replicas_share_a_database,
    names_fit,
    a_changed_configuration_rolls_the_pod_where_it_has_to,
    monitoring_finds_hubs_and_sidecars,
    mistakes_are_refused,
    the_notes_tell_how_to_reach_it,
]

failed = 0
for binary in helms:
    version = helm(binary, "version", "--short").stdout.strip()
    for check in CHECKS:
        try:
            check(binary)
        except Exception as error:  # one that fails hides none of the others
            failed += 1
            print(f"chart: {check.__name__} with helm {version}: {type(error).__name__}: {error}", file=sys.stderr)
for file in sorted((chart / "ci").glob("*-values.yaml")):
    name = file.name.removesuffix("-values.yaml")
    renderings = [Rendered(binary, name) for binary in helms]
    if len({rendering.text for rendering in renderings}) > 1:
        failed += 1
        print(f"chart: {file.name} is rendered in different ways by {helms}", file=sys.stderr)
    (work / f"chart-{name}.yaml").write_text(renderings[0].text)
    (work / f"config-{name}.yaml").write_text(renderings[0].one("ConfigMap")["data"]["tidings.yaml"])
if failed:
    sys.exit(f"chart: {failed} checks failed")
print(f"chart: {len(CHECKS)} checks are fine with {len(helms)} versions of helm")
