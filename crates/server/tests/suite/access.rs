//! Who may ask.

use std::io::Write;

use serde_json::json;
use server::{Error, Limits, Listen, Options, Server};

use crate::support::{Setup, chat, parse, read};

#[test]
fn without_the_key_there_is_only_the_page() {
    let mut setup = Setup::new();
    setup.key = Some("correct-horse");
    let server = setup.start();
    let wrong = [("Authorization", "Bearer wrong-horse")];
    for path in ["/v1/models", "/metrics", "/pouch/v1/status", "/openapi.json", "/nothing"] {
        let response = server.ask("GET", path, &wrong, b"");
        let error = &response.json()["error"];
        assert_eq!((response.status, error["code"].as_str()), (401, Some("invalid_api_key")), "{path}");
    }
    let missing = server.ask("POST", "/v1/chat/completions", &[("Authorization", "")], b"{}");
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
    for path in ["/", "/health"] {
        assert_eq!(server.ask("GET", path, &wrong, b"").status, 200, "{path}");
    }
    assert_eq!(server.ask("POST", "/health", &wrong, b"").status, 401);
    server.object("/v1/chat/completions", &chat("Hello", &json!({})));
}

#[test]
fn names_that_were_rebound_and_pages_of_elsewhere_are_refused() {
    let mut setup = Setup::new();
    setup.hosts = vec!["phone.lan".to_owned()];
    setup.origins = vec!["https://chat.example".to_owned()];
    let server = setup.start();
    let ask = |headers: &[(&str, &str)]| server.ask("GET", "/v1/models", headers, b"");
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        let response = ask(&[("Host", host)]);
        assert_eq!(
            (response.status, response.json()["error"]["code"].as_str()),
            (403, Some("host_not_allowed")),
            "{host}"
        );
    }
    assert_eq!(ask(&[("Host", "phone.lan")]).status, 200);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let response = ask(&[("Origin", origin)]);
        assert_eq!(
            (response.status, response.json()["error"]["code"].as_str()),
            (403, Some("origin_not_allowed")),
            "{origin}"
        );
        assert_eq!(response.header("access-control-allow-origin"), None);
        assert_eq!(response.header("cross-origin-resource-policy"), Some("same-origin"));
    }
    let own = format!("http://{}", server.address);
    assert_eq!(ask(&[("Origin", &own)]).status, 200);
    let friend = ask(&[("Origin", "https://chat.example")]);
    assert_eq!(
        (friend.status, friend.header("access-control-allow-origin")),
        (200, Some("https://chat.example"))
    );
    let beforehand = server.ask("OPTIONS", "/v1/models", &[("Origin", "https://chat.example")], b"");
    assert_eq!(beforehand.status, 204);
    assert!(beforehand.header("access-control-allow-methods").unwrap().contains("POST"));
}

#[test]
fn beyond_this_machine_a_key_is_required() {
    let options = |key: Option<&str>| {
        let path = std::env::temp_dir().join(format!("pouch-access-{}.gguf", std::process::id()));
        testkit::tiny_model(&crate::support::endless()).write(&path);
        Options {
            models: vec![server::ModelFile {
                name: "tiny".to_owned(),
                aliases: Vec::new(),
                path,
                cache_folder: None,
                open: None,
            }],
            service: engine::Service::start(engine::ServiceOptions::default()).unwrap(),
            listen: vec![Listen::Tcp("0.0.0.0:0".parse().unwrap())],
            key: key.map(str::to_owned),
            hosts: Vec::new(),
            origins: Vec::new(),
            context: None,
            kv_type: model::KvType::F16,
            keeping: engine::Keeping::default(),
            recovered: Vec::new(),
            data: None,
            limits: Limits::default(),
        }
    };
    assert!(matches!(Server::start(options(None)), Err(Error::KeyRequired { .. })));
    assert!(matches!(Server::start(options(Some("short"))), Err(Error::BadKey)));
    Server::start(options(Some("long-enough-key"))).unwrap().stop();
}

#[cfg(unix)]
#[test]
fn a_unix_socket_serves_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    let mut setup = Setup::new();
    setup.socket = true;
    let server = setup.start();
    let path = server.folder.path().join("pouch.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(read(&mut stream).json()["data"][0]["id"], "tiny");
    let folder = server.folder.path().to_owned();

    let listen = |path: std::path::PathBuf| {
        Server::start(Options {
            models: vec![server::ModelFile {
                name: "tiny".to_owned(),
                aliases: Vec::new(),
                path: folder.join("tiny.gguf"),
                cache_folder: None,
                open: None,
            }],
            service: engine::Service::start(engine::ServiceOptions::default()).unwrap(),
            listen: vec![Listen::Unix(path)],
            key: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            context: None,
            kv_type: model::KvType::F16,
            keeping: engine::Keeping::default(),
            recovered: Vec::new(),
            data: None,
            limits: Limits::default(),
        })
    };
    assert!(matches!(listen(path.clone()), Err(Error::SocketInUse { .. })));
    assert!(path.exists());
    let file = folder.join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(listen(file.clone()), Err(Error::NoSocket { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
    // What a killed server leaves: a socket without a listener.
    let stale = folder.join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let second = listen(stale.clone()).unwrap();
    assert_eq!(second.addresses(), [format!("unix:{}", stale.display())]);
    second.stop();
    assert!(!stale.exists());
}

#[test]
fn what_is_no_http_of_ours_is_answered_or_closed() {
    let server = Setup::new().start();
    let exchange = |bytes: &[u8]| {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        answer
    };
    let no_host = parse(&exchange(b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n"));
    assert_eq!(no_host.json()["error"]["message"], "the request has no Host header");
    assert!(exchange(b"nonsense\r\n\r\n").starts_with(b"HTTP/1.1 400"));
    let method = server.ask("PATCH", "/v1/models", &[], b"");
    assert_eq!((method.status, method.json()["error"]["code"].as_str()), (405, Some("method_not_allowed")));
}

#[cfg(unix)]
#[test]
fn this_users_programs_find_the_server_in_its_data_folder_and_need_no_key() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    let mut setup = Setup::new();
    setup.key = Some("correct-horse");
    setup.socket = true;
    let server = setup.start();
    let ask = |path: &str| {
        let mut stream = UnixStream::connect(server.folder.path().join(path)).unwrap();
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        read(&mut stream).status
    };
    assert_eq!((ask("data/pouch.sock"), ask("pouch.sock")), (200, 401));
    let socket = server.folder.path().join("data/pouch.sock");
    assert_eq!(std::fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn a_server_whose_socket_is_taken_serves_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(folder.path().join("data/pouch.sock")).unwrap();
    let server = Setup::new().start_in(folder);
    assert!(matches!(server.hidden(), Some(Error::SocketInUse { .. })));
    server.object("/v1/chat/completions", &chat("Hello", &json!({})));
}
