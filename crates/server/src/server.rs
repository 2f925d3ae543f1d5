//! A server from its start to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::{Keeping, Recovered, Service};
use model::KvType;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::app::App;
use crate::connections::accept;
use crate::error::Error;
use crate::generation::{Active, Common, resume};
use crate::ids;
use crate::limits::Limits;
use crate::listen::{Listen, Listener};
use crate::metrics::Metrics;
use crate::models::{ModelFile, Models};
use crate::openai::records::Records;
use crate::own::kept::Conversations;
use crate::routes::router;
use crate::security::Access;

/// Threads that serve connections. They do no arithmetic and must not take much from those that do.
const THREADS: usize = 2;

/// Threads for what would hold the others up: reading files, tokenizing, opening models.
const MOST_BLOCKING: usize = 16;

/// What a server serves, where, and to whom.
pub struct Options {
    /// The models, the default first.
    pub models: Vec<ModelFile>,
    /// Who computes.
    pub service: Service,
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// The key that clients must know. Without one the server listens to this machine alone.
    pub key: Option<String>,
    /// Names of this machine that clients may call it by, besides `localhost` and addresses in digits.
    pub hosts: Vec<String>,
    /// Origins of web pages elsewhere that may ask.
    pub origins: Vec<String>,
    /// Tokens that a prompt and its answer may have together; the model's own, at most the usual, if `None`.
    pub context: Option<usize>,
    /// The number format of keys and values.
    pub kv_type: KvType,
    /// As the service has it: weights of open models count against its budget too, and its journal has what is to be stored.
    pub keeping: Keeping,
    /// What the journal had: it goes on.
    pub recovered: Vec<Recovered>,
    /// Where conversations and stored responses are kept, and the socket is that [`socket`](crate::socket) names; nowhere if `None`.
    pub data: Option<PathBuf>,
    /// What clients may ask.
    pub limits: Limits,
}

/// A running server.
pub struct Server {
    app: Arc<App>,
    runtime: Runtime,
    addresses: Vec<String>,
    /// Why this user's own programs do not find the server, if they do not.
    hidden: Option<Error>,
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Starts to listen and serve, on threads of its own.
    ///
    /// # Errors
    /// Everything that [`Error`] has: nothing is served then.
    pub fn start(options: Options) -> Result<Server, Error> {
        let access = Access::new(options.key.as_deref(), &options.hosts, &options.origins)?;
        let public = options.listen.iter().find_map(|listen| match listen {
            Listen::Tcp(address) if !address.ip().is_loopback() => Some(*address),
            _ => None,
        });
        if let (Some(address), false) = (public, access.needs_key()) {
            return Err(Error::KeyRequired { address });
        }
        let limits = options.limits;
        let common = Common { context: options.context, kv_type: options.kv_type };
        let within_data = |name| options.data.as_ref().map(|data| data.join(name));
        let (responses, conversations) = (within_data("responses"), within_data("conversations"));
        let app = Arc::new(App {
            models: Arc::new(Models::new(options.models, options.keeping.memory, common)?),
            service: options.service,
            common,
            access,
            body_bytes: Semaphore::new(limits.bodies),
            places: Arc::new(Semaphore::new(limits.answers)),
            active: Arc::new(Active::default()),
            records: Records::new(responses, options.keeping.journal, limits.responses),
            metrics: Arc::new(Metrics::default()),
            conversations: conversations.map(|folder| Arc::new(Conversations::new(folder))),
            revision: AtomicU64::new(ids::random() >> 12),
            is_stopping: Arc::default(),
            limits,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(MOST_BLOCKING)
            .thread_name("pouch-server")
            .enable_all()
            .build()
            .map_err(|source| Error::Io { action: "start the server's threads".to_owned(), source })?;
        let within = runtime.enter();
        let mut listeners =
            options.listen.iter().map(Listener::bind).collect::<Result<Vec<Listener>, Error>>()?;
        let addresses = listeners.iter().map(Listener::address).collect();
        let mut hidden = None;
        #[cfg(unix)]
        match options.data.as_deref().map(Listener::bind_own) {
            Some(Ok(listener)) => listeners.push(listener),
            Some(Err(error)) => hidden = Some(error),
            None => {}
        }
        drop(within);
        let (stop, stopping) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(app.limits.connections));
        let router = router(&app);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let places = Arc::clone(&connections);
            let accept = accept(listener, router.clone(), app.limits.clone(), places, stopping.clone());
            accepting.spawn_on(accept, runtime.handle());
        }
        let (resumed, recovered) = (Arc::clone(&app), options.recovered);
        runtime.spawn(async move {
            for recovered in recovered {
                // What cannot go on now stays in the journal for a server that has its model.
                let _ = resume(&resumed, recovered).await;
            }
        });
        Ok(Server { app, runtime, addresses, hidden, stop, accepting, connections })
    }

    /// Where it was told to listen: `http://127.0.0.1:8080`, `unix:/run/pouch.sock`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Why it does not listen at the socket in its data folder, by which this user's own programs would find it: another server has
    /// it, or the folder's path is too long for a socket.
    pub fn hidden(&self) -> Option<&Error> {
        self.hidden.as_ref()
    }

    /// Answers in the making.
    pub fn answers(&self) -> usize {
        self.app.limits.answers - self.app.places.available_permits()
    }

    /// Takes over what tells a process to end: Ctrl-C and, where there are such signals, SIGTERM.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not let them be taken over.
    pub fn signals(&self) -> Result<Signals, Error> {
        let _within = self.runtime.enter();
        Signals::take().map_err(|source| Error::Io { action: "take over the signals".to_owned(), source })
    }

    /// Waits for one of the signals.
    pub fn wait_for(&self, mut signals: Signals) {
        self.runtime.block_on(signals.next());
    }

    /// Ends: nobody new is served, answers in the making get a little time, and what is left of them is cut off. The engine is
    /// stopped too.
    pub fn stop(mut self) {
        self.app.is_stopping.store(true, Ordering::Relaxed);
        let connections = Arc::clone(&self.connections);
        let (all, places) = (self.app.limits.connections as u32, Arc::clone(&self.app.places));
        let (time, answers) = (self.app.limits.stop_time, self.app.limits.answers as u32);
        let service = self.app.service.clone();
        self.stop.send_replace(true);
        self.runtime.block_on(async move {
            while self.accepting.join_next().await.is_some() {}
            let all_ended = async {
                // All places free: no connection and no stored answer is left.
                let _ = connections.acquire_many(all).await;
                let _ = places.acquire_many(answers).await;
            };
            if tokio::time::timeout(time, all_ended).await.is_err() {
                let stopping = tokio::task::spawn_blocking(move || service.shutdown());
                let _ = stopping.await;
                let _ = tokio::time::timeout(Duration::from_secs(1), connections.acquire_many(all)).await;
            }
        });
        self.app.service.shutdown();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }

    /// The first TCP address.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(|address| address.strip_prefix("http://")?.parse().ok())
    }
}

/// The signals that end a server, taken over from now on.
#[cfg(unix)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn take() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signals that end a server, taken over from now on.
#[cfg(windows)]
pub struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
}

#[cfg(windows)]
impl Signals {
    fn take() -> std::io::Result<Signals> {
        Ok(Signals { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}
