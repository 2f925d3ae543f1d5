//! `pouch serve`: models over HTTP, for other programs and a web page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use engine::{
    DEFAULT_BATCH, Journal, Keeping, PageStore, PolicyOptions, Recovered, Service, ServiceOptions, Sharing,
    StoreOptions,
};
use hub::{Folder, Hub, Reference};
use model::KvType;
use serde::Serialize;
use server::{Limits, Listen, ModelFile, Options, Server};

use crate::commands::MODEL_HELP;
use crate::errors::Failure;
use crate::generation::{Compute, team};
use crate::memory::Told;
use crate::printer::Printer;
use crate::{memory, models, units};

/// Answer other programs and a web page: OpenAI's API, Ollama's API
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "MODEL", help = format!("{MODEL_HELP}; the first is the default. \
        Without any: the default model and all that are here"))]
    models: Vec<String>,

    /// Address to listen at; beyond this machine only with an API key
    #[arg(long, value_name = "ADDRESS", help_heading = LISTENING)]
    host: Option<IpAddr>,

    /// Port to listen at; 0 takes any free one [default: 8080]
    #[arg(long, value_name = "PORT", help_heading = LISTENING)]
    port: Option<u16>,

    /// Listen at a Unix socket too, or only there without --host and --port
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", help_heading = LISTENING)]
    socket: Option<PathBuf>,

    /// The key that clients must send; better in POUCH_API_KEY or a file, as others can read command lines
    #[arg(long, value_name = "KEY", conflicts_with = "api_key_file", help_heading = ACCESS)]
    api_key: Option<String>,

    /// A file with the key
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    api_key_file: Option<PathBuf>,

    /// A name of this machine that clients may call it by, beside localhost and addresses in digits
    #[arg(long = "allow-host", value_name = "NAME", help_heading = ACCESS)]
    hosts: Vec<String>,

    /// A web page elsewhere that may ask, such as https://chat.example
    #[arg(long = "allow-origin", value_name = "ORIGIN", help_heading = ACCESS)]
    origins: Vec<String>,

    /// Tokens that fit, prompt and answer together [default: the model's own, at most 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = MACHINE)]
    context: Option<u32>,

    /// Where conversations and stored answers are kept [default: the user's data folder]
    #[arg(long, value_name = "FOLDER", help_heading = MACHINE)]
    data: Option<PathBuf>,

    /// Disk that computed beginnings of prompts may take, which spare computing them again; 0 for none
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes_or_none, default_value = "1GB", help_heading = MACHINE)]
    prefix_cache: u64,

    /// By what requests share the machine: who is in a hurry, or fair shares, where nobody is put aside for a newcomer
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Policy::Urgency, help_heading = MACHINE)]
    policy: Policy,

    #[command(flatten, next_help_heading = MACHINE)]
    compute: Compute,

    /// Print one JSON object once it listens
    #[arg(long)]
    json: bool,
}

/// By what requests share the machine.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Policy {
    Urgency,
    Fair,
}

impl From<Policy> for PolicyOptions {
    fn from(policy: Policy) -> PolicyOptions {
        let sharing = match policy {
            Policy::Urgency => Sharing::Urgency,
            Policy::Fair => Sharing::Fair,
        };
        PolicyOptions { sharing, ..PolicyOptions::default() }
    }
}

const LISTENING: &str = "Listening";
const ACCESS: &str = "Access";
const MACHINE: &str = "Machine";

/// The port that local engines usually have.
const PORT: u16 = 8080;

/// Memory that computed beginnings of prompts may take where there is plenty.
const PAGES_IN_MEMORY: usize = 512 << 20;

/// The variable that can hold the key.
pub(super) const KEY_VARIABLE: &str = "POUCH_API_KEY";

const EXAMPLES: &str = "\
Ctrl-C ends it: answers in the making get a few seconds. The page is at the address it tells; docs/serve.md has the rest.

Examples:
  pouch serve
  pouch serve qwen2.5-0.5b ./other.gguf --memory 2GB
  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'
  pouch serve --host 0.0.0.0 --api-key-file key.txt --allow-host phone.lan
  pouch serve --socket /run/user/1000/pouch.sock
  pouch serve --port 11434     where Ollama's front ends look";

/// Where it listens and what it serves.
#[derive(Serialize)]
struct Output<'a> {
    addresses: &'a [String],
    models: &'a [String],
    /// Of the default model.
    residency: Told,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let key = arguments.key()?;
    let listen = arguments.listen();
    let hub = models::hub()?;
    let mut files = arguments.files(&hub, printer)?;
    let memory = memory::memory(arguments.compute.memory);
    let chosen = arguments.context.map(|context| context as usize);
    let (plan, context) = {
        // The default model is opened now, so that what is wrong with it is told now. The team that helps is gone before the
        // service has its own.
        let team = team(arguments.compute.threads);
        let kv_type = arguments.compute.kv.map(KvType::from);
        let demand = engine::conversations(chosen, kv_type, DEFAULT_BATCH, Some(team.threads()));
        let default = &mut files[0];
        let (model, plan) = models::open_file(&hub, &default.path, &team, &memory, &demand, printer)?;
        memory::tell(&plan, &demand, &model, &memory, printer);
        // Where nothing is wanting, each model has its own.
        let usual = engine::DEFAULT_CONTEXT.min(model.config.context);
        default.open = Some(model);
        (plan.clone(), chosen.or(Some(plan.context).filter(|context| *context < usual)))
    };
    let data = arguments.data.clone().or_else(|| Folder::Data.path());
    if data.is_none() {
        printer.warning("there is no data folder, so conversations are not kept; --data names one");
    }
    let (journal, recovered) = journal(data.as_deref(), printer);
    let store = PageStore::open(StoreOptions {
        folder: (arguments.prefix_cache > 0).then(|| hub.settings().cache.join("pages")),
        memory: PAGES_IN_MEMORY.min(memory.budget().limit() / 8),
        disk: usize::try_from(arguments.prefix_cache).unwrap_or(usize::MAX),
    });
    let keeping = Keeping { memory, store: Some(store), journal };
    let threads = arguments.compute.threads.map(usize::from);
    let service = Service::start(ServiceOptions {
        threads,
        batch: plan.batch,
        keeping: keeping.clone(),
        policy: arguments.policy.into(),
        ..ServiceOptions::default()
    })?;
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let server = Server::start(Options {
        models: files,
        service,
        listen,
        key,
        hosts: arguments.hosts,
        origins: arguments.origins,
        context,
        kv_type: plan.kv_type,
        keeping,
        recovered,
        data,
        limits: Limits::default(),
    })?;
    // Before anybody knows that it is there and could tell it to end.
    let signals = server.signals()?;
    match arguments.json {
        true => printer.json(&Output {
            addresses: server.addresses(),
            models: &names,
            residency: Told::of(&plan),
        })?,
        false => server.addresses().iter().try_for_each(|address| printer.line(address))?,
    }
    if let Some(error) = server.hidden() {
        printer.note(&format!("`pouch chat` will not find this server: {error}"));
    }
    printer.note(&format!("serving {}; Ctrl-C ends it", names.join(", ")));
    server.wait_for(signals);
    match server.answers() {
        0 => {}
        left => printer.note(&format!("stopping; {left} answers in the making get a few seconds")),
    }
    server.stop();
    Ok(())
}

impl Arguments {
    fn listen(&self) -> Vec<Listen> {
        let mut listen = Vec::new();
        #[cfg(unix)]
        listen.extend(self.socket.clone().map(Listen::Unix));
        if listen.is_empty() || self.host.is_some() || self.port.is_some() {
            let host = self.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            listen.insert(0, Listen::Tcp(SocketAddr::new(host, self.port.unwrap_or(PORT))));
        }
        listen
    }

    /// The key from wherever it is given.
    fn key(&self) -> Result<Option<String>, Failure> {
        if let Some(file) = &self.api_key_file {
            let key = std::fs::read_to_string(file).map_err(|source| Failure::io("read", file, source))?;
            return Ok(Some(key.trim().to_owned()));
        }
        let variable = || std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
        Ok(self.api_key.clone().or_else(variable))
    }

    /// The models' files, fetched first if they are not here.
    fn files(&self, hub: &Hub, printer: &Printer) -> Result<Vec<ModelFile>, Failure> {
        let mut files = Vec::new();
        for reference in &self.models {
            let path = models::fetch(hub, reference, printer)?;
            files.push(file(hub, reference, path)?);
        }
        if files.is_empty() {
            let path = models::fetch(hub, hub::DEFAULT_MODEL, printer)?;
            files.push(file(hub, hub::DEFAULT_MODEL, path)?);
            for entry in hub.list()? {
                let other = file(hub, &entry.name, entry.path)?;
                if files.iter().all(|file| file.name != other.name) {
                    files.push(other);
                }
            }
        }
        Ok(files)
    }
}

/// The journal of stored answers, and those that an earlier server had begun. A folder that cannot be written to, or that
/// another server uses, leaves requests to store an answer refused.
fn journal(data: Option<&Path>, printer: &Printer) -> (Option<Journal>, Vec<Recovered>) {
    let Some(folder) = data else { return (None, Vec::new()) };
    match Journal::open(&folder.join("journal")) {
        Ok((journal, recovered)) => {
            if !recovered.is_empty() {
                printer.note(&format!("{} stored answers go on", recovered.len()));
            }
            (Some(journal), recovered)
        }
        Err(error) => {
            printer.warning(&format!("no answers can be stored: {error}"));
            (None, Vec::new())
        }
    }
}

/// A model under the names that clients may use: the catalogue's, or else the file's.
fn file(hub: &Hub, reference: &str, path: PathBuf) -> Result<ModelFile, Failure> {
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let whole = file_name(&path);
    let stem = whole.strip_suffix(".gguf").unwrap_or(&whole).to_owned();
    let mut aliases = vec![whole, reference.to_owned()];
    let name = match Reference::parse(reference)? {
        Reference::Catalogue(model) => {
            aliases.extend(model.aliases.iter().map(|alias| (*alias).to_owned()));
            aliases.push(stem);
            model.name.to_owned()
        }
        _ => stem,
    };
    Ok(ModelFile { name, aliases, cache_folder: Some(hub.derived_folder(&path)), path, open: None })
}
