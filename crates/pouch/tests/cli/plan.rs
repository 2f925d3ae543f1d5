//! Plans of models that are here and that are not, on devices of the catalogue and on this one.

use testkit::server::{Response, Server};

use crate::support::{Pouch, argument};

#[test]
fn a_plan_tells_memory_speed_and_how_to_run() {
    let pouch = Pouch::new();
    pouch.write_model("model.gguf");
    let ran = pouch.run(&["plan", "model.gguf", "--phone", "pixel-9", "--html", "plan.html"]);
    insta::assert_snapshot!(ran.told());
    let page = std::fs::read_to_string(pouch.path("plan.html")).unwrap();
    assert!(page.contains("Google Pixel 9") && page.contains("68.3"), "{page}");
    for outside in ["http:", "https:", "<script", "<link", "<img"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn all_devices_are_ranked() {
    let pouch = Pouch::new();
    pouch.write_model("model.gguf");
    let arguments =
        ["plan", "model.gguf", "--phone", "all", "--context", "64", "--html", "all.html", "--json"];
    let object = pouch.object(&arguments);
    let plans = object["plans"].as_array().unwrap();
    assert!(plans.len() >= 20);
    let speeds: Vec<f64> = plans.iter().map(|plan| plan["decode"]["tok_s"].as_f64().unwrap()).collect();
    assert!(speeds.windows(2).all(|pair| pair[0] >= pair[1]), "{speeds:?}");
    assert!(plans.iter().all(|plan| plan["verdict"]["fit"] == "fits"));
    let page = std::fs::read_to_string(pouch.path("all.html")).unwrap();
    assert!(plans.iter().all(|plan| page.contains(plan["device"].as_str().unwrap())));
}

#[test]
fn of_a_model_on_the_network_the_header_alone_is_read() {
    let pouch = Pouch::new();
    // A vocabulary-sized header and weights that are never sent: the file ends where the server is asked to stop.
    pouch.write_model_with("model.gguf", |options| options.width = 512);
    let here = pouch.object(&["plan", "model.gguf", "--phone", "pixel-9", "--json"]);
    let file = std::fs::read(pouch.path("model.gguf")).unwrap();
    let server = Server::start(move |request, _| Response::file(request, &file, "\"one\""));
    let pouch = pouch.with("HF_ENDPOINT", &server.address);
    let remote = pouch.object(&["plan", "hf:o/r/f.gguf", "--phone", "pixel-9", "--json"]);
    assert_eq!(remote["plans"], here["plans"]);
    assert!(server.requests().iter().all(|request| request.header("range").is_some()));
    assert!(!pouch.path("cache").join("models").exists());
}

#[test]
fn a_probed_device_is_planned_for() {
    let pouch = Pouch::new();
    pouch.write_model("model.gguf");
    let ran = pouch.run(&["probe", "--threads", "1", "--no-storage", "-o", "mine.toml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in ["Memory", "Products with 1 threads", "Q4_K", "profile at"] {
        assert!(
            ran.stdout.contains(part) || ran.stderr.contains(part),
            "{part}: {}{}",
            ran.stdout,
            ran.stderr
        );
    }
    let object =
        pouch.object(&["plan", "model.gguf", "--phone", argument(&pouch.path("mine.toml")), "--json"]);
    let plan = &object["plans"][0];
    assert_eq!((&plan["measured"], &plan["decode"]["threads"]), (&true.into(), &1.into()));
    assert!(plan["decode"]["tok_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn packing_for_a_device_takes_the_bits_it_has_room_for() {
    let pouch = Pouch::new();
    pouch.write_model("model.gguf");
    let pack = ["pack", "model.gguf", "-o", "out.gguf", "--phone", "redmi-12c", "--effort", "fast"];
    let ran = pouch.run(&[&pack[..], &["--context", "100000000"]].concat());
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("no room for a context of 100000000 tokens"), "{}", ran.stderr);
}

#[test]
fn asking_in_ways_that_mean_nothing_is_told() {
    let pouch = Pouch::new();
    pouch.write_model("model.gguf");
    pouch.write("mine.toml", "name = 1\n");
    let told: Vec<String> = [
        &["plan", "model.gguf", "--phone", "pixel"][..],
        &["plan", "model.gguf", "--phone", "mine.toml"],
        &["plan", "model.gguf", "--phone", "pixel-9", "--context", "10", "--prompt", "20"],
        &["plan", "absent.gguf", "--phone", "pixel-9"],
        &["plan", "model.gguf", "--phone", "pixel-9", "--here"],
    ]
    .into_iter()
    .map(|arguments| pouch.run(arguments).told())
    .collect();
    insta::assert_snapshot!(told.join("\n"));
}
