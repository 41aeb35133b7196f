//! The image as the Dockerfile's last stage makes it, run as locked down as a cluster would run it,
//! and the compose file. Nothing can be pulled here, so the program comes from this workspace:
//! `tests/run` links a static one and names it in `HANDOFF_STATIC_RELAY_BIN`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Finished, Method, Names, TestRelay, eventually, run, tool};
use serde_json::Value;
use tempfile::TempDir;

/// What the image may have beside its program: the certificate authorities.
const REST_MAX_BYTES: u64 = 1_000_000;
/// What an image with a release build may have in all; a debug build alone has more.
const RELEASE_MAX_BYTES: u64 = 40_000_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Images and containers in a folder of the test's own.
struct Podman {
    folder: TempDir,
}

impl Podman {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tool("bin").join(program));
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.folder.path().join("storage"))
            .arg("--runroot")
            .arg(self.folder.path().join("run"));
        if program == "podman" {
            command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        }
        command
    }

    /// Runs podman; its standard output.
    async fn podman(&self, arguments: &[&str]) -> String {
        let mut command = self.command("podman");
        command.args(arguments);
        let finished = finish(command).await;
        assert!(finished.status.success(), "{arguments:?}: {finished:?}");
        finished.stdout.trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for arguments in [["rm", "--all", "--force"], ["rmi", "--all", "--force"]] {
            let mut remove = self.command("podman");
            remove.args(arguments);
            if let Err(error) = run(remove) {
                eprintln!("podman {arguments:?}: {error}");
            }
        }
    }
}

async fn finish(command: Command) -> Finished {
    let program = command.get_program().to_owned();
    let finished = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
    finished.unwrap_or_else(|error| panic!("{program:?} can't be run: {error}"))
}

#[tokio::test]
async fn the_image_runs_with_nothing_but_its_program() {
    let podman = Podman {
        folder: tempfile::tempdir().unwrap(),
    };
    let program = std::env::var_os("HANDOFF_STATIC_RELAY_BIN")
        .expect("tests/run names a static handoff-relay in HANDOFF_STATIC_RELAY_BIN");
    let files = podman.folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let program_bytes = std::fs::copy(program, files.join("handoff-relay")).unwrap();
    let authorities = "/etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(authorities, files.join("ca-certificates.crt")).unwrap();

    let image = "localhost/handoff-relay:test";
    let mut build = podman.command("buildah");
    build
        .args(["bud", "--isolation", "chroot", "--format", "docker"])
        .arg("--build-context")
        .arg(format!("files={}", files.display()))
        .args(["--tag", image])
        .arg(root());
    let built = finish(build).await;
    assert!(built.status.success(), "{built:?}");

    let described = podman.podman(&["image", "inspect", image]).await;
    let described: Value = serde_json::from_str(&described).unwrap();
    let described = &described[0];
    let size = described["Size"].as_u64().unwrap();
    assert!(size < program_bytes + REST_MAX_BYTES, "{size} bytes");
    if std::env::var_os("HANDOFF_STATIC_RELAY_IS_RELEASE").is_some() {
        assert!(size < RELEASE_MAX_BYTES, "{size} bytes");
    }
    let config = &described["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(
        config["Labels"]["org.opencontainers.image.title"],
        "handoff-relay"
    );

    // Beside a replica of the test's, on its Postgres; found by a name that only DNS knows.
    let relay = TestRelay::builder().own_postgres().start().await;
    let host = Ipv4Addr::new(127, 53, rand::random(), rand::random_range(1..=254));
    let names = Names::serve(host, 53).await;
    names.are([Ipv4Addr::LOCALHOST]);
    let database = relay.database().url();
    assert!(database.contains("@127.0.0.1:"), "{database}");
    let database = database.replace("@127.0.0.1:", "@postgres.test:");
    let (database, dns) = (format!("DATABASE_URL={database}"), host.to_string());
    let port = free_port();
    let listen = format!("PORT={port}");
    #[rustfmt::skip]
    let locked_down = [
        "--network", "host", "--dns", &dns, "--read-only", "--read-only-tmpfs=false",
        "--cap-drop", "all", "--security-opt", "no-new-privileges",
        "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096",
        "--env", &database, "--env", &listen, "--env", "HANDOFF_BIND=127.0.0.1",
    ];
    let run = |before: &[&'static str], after: &[&'static str]| {
        let arguments = [&["run"], before, &locked_down, &[image], after].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let podman = &podman;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            podman.podman(&arguments).await
        }
    };
    let migrated = run(&["--rm"], &["migrate"]).await;
    assert!(migrated.contains("up to date"), "{migrated:?}");
    let container = run(&["--detach"], &[]).await;
    let through = relay.admin().through(&format!("http://127.0.0.1:{port}"));
    eventually("the container is ready", || async {
        let ready = through.request(Method::GET, "/readyz").try_send().await;
        (ready.ok()?.status() == 200).then_some(())
    })
    .await;
    let health = ["exec", &container, "/usr/local/bin/handoff-relay", "health"];
    podman.podman(&health).await;
    podman.podman(&["healthcheck", "run", &container]).await;

    // It is what the settings above say that it is.
    let pid = podman
        .podman(&["inspect", "--format", "{{.State.Pid}}", &container])
        .await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in [
        "Uid:\t65532\t65532\t65532\t65532",
        "Gid:\t65532\t65532\t65532\t65532",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(
            status.lines().any(|found| found == line),
            "{line}: {status}"
        );
    }

    // It serves, beside the replica of the test's.
    let mut stream = through.stream("/api/channels/ops/stream").await;
    let message = relay.admin().say("ops", "hello, container").await;
    assert_eq!(stream.next().await.data, message);
    let answer = through.say("ops", "hello, test").await;
    assert_eq!(stream.next().await.data, answer);

    let told = Instant::now();
    let stop = ["stop", "--time", "25", &container];
    let (_, rest) = tokio::join!(podman.podman(&stop), stream.ended());
    assert_eq!(rest, []);
    assert!(
        told.elapsed() < Duration::from_secs(20),
        "{:?}",
        told.elapsed()
    );
    let code = ["inspect", "--format", "{{.State.ExitCode}}", &container];
    assert_eq!(podman.podman(&code).await, "0");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn the_compose_file_says_what_it_should() {
    let files = ["compose.yaml", "services/proxy/compose.nginx.yaml"];
    let mut check = Command::new(tool("python/compose/bin/check-jsonschema"));
    check
        .args(["--builtin-schema", "vendor.compose-spec"])
        .args(files)
        .current_dir(root());
    let checked = finish(check).await;
    assert!(checked.status.success(), "{checked:?}");

    let compose = |files: &'static [&'static str], password: &'static str| async move {
        let mut config = Command::new(tool("python/compose/bin/podman-compose"));
        config
            .args(files.iter().flat_map(|file| ["--file", file]))
            .arg("config")
            .env("HANDOFF_POSTGRES_PASSWORD", password)
            .current_dir(root());
        finish(config).await
    };
    let refused = compose(&["compose.yaml"], "").await;
    assert!(
        !refused.status.success(),
        "no password is built in: {refused:?}"
    );
    let said = refused.stderr + &refused.stdout;
    assert!(said.contains("HANDOFF_POSTGRES_PASSWORD"), "{said}");
    let both = compose(
        &["compose.yaml", "services/proxy/compose.nginx.yaml"],
        "s3cret",
    )
    .await;
    assert!(both.status.success(), "{both:?}");
    assert!(both.stdout.contains("nginx-unprivileged"), "{both:?}");
    let filled = compose(&["compose.yaml"], "s3cret").await;
    assert!(filled.status.success(), "{filled:?}");

    let services = yaml(&filled.stdout).await["services"].clone();
    for replica in ["relay-a", "relay-b"] {
        let replica = &services[replica];
        let migrated = &replica["depends_on"]["migrate"]["condition"];
        assert_eq!(migrated, "service_completed_successfully");
        assert_eq!(replica["networks"]["default"]["aliases"][0], "relay");
        assert_eq!(replica["stop_grace_period"], "30s");
        assert_eq!(replica["healthcheck"]["test"][2], "health");
    }
    for (name, service) in services.as_object().unwrap() {
        if name != "postgres" {
            assert_eq!(service["read_only"], true, "{name}");
            assert_eq!(service["cap_drop"][0], "ALL", "{name}");
        }
    }
    assert_eq!(
        services["proxy"]["environment"]["HANDOFF_RELAYS"],
        "relay:3000"
    );
    let replica = &services["relay-a"]["environment"];
    assert_eq!(replica["PORT"], "3000");
    let database = "postgres://handoff:s3cret@postgres/handoff?sslmode=disable";
    assert_eq!(replica["DATABASE_URL"], database);
}

/// YAML as JSON, by the library that podman-compose reads it with.
async fn yaml(text: &str) -> Value {
    let mut convert = Command::new(tool("python/compose/bin/python"));
    convert
        .arg("-c")
        .arg("import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.argv[1])))")
        .arg(text);
    let converted = finish(convert).await;
    assert!(converted.status.success(), "{converted:?}");
    serde_json::from_str(&converted.stdout).unwrap()
}
