//! An HTTP service with a client and engines inside it, and tasks that go by name.
//!
//! Named tasks are for services: the program that submits and the program that runs need not be the same executable, they
//! need only agree on a name and its types.

use std::{collections::HashMap, env, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    routing::get,
};
use clap::Parser;
use engineroom::{
    Client, ConnectionFile, Controller, ControllerConfig, EngineConfig, EngineNode, Profile, TaskName, Tasks, WorkerKind,
};
use engineroom_examples::{ClusterOptions, Failure, run, say};
use tokio::{net::TcpListener, runtime, signal, time::timeout};

/// The task, by name: which service runs it does not matter.
const SUM_OF_SQUARES: TaskName<u64, u128> = TaskName::new("sum-of-squares");
/// The largest n that is answered: a service bounds what one request may cost it.
const N_MAX: u64 = 100_000_000;
/// How long a request waits for its task before it is answered with 504.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long engines and controller may take to finish what they are doing when the service ends.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// Answers GET /sum-of-squares?n=N with 1² + 2² + … + N², computed by a named task on an engine inside this service.
///
/// Examples:
///   embed                                    with a controller inside the service, too
///   embed --profile lab                      its engines join the cluster of that profile, its client uses it
///   embed --connection client.json --engine-connection engine.json --listen 127.0.0.1:0
#[derive(Parser)]
#[command(verbatim_doc_comment, mut_arg("engines", |arg| arg.help("Engines that this service runs [default: one a core]")))]
struct Options {
    /// Address to answer HTTP on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// What lets the engines of this service in, where a connection file and not a profile names the cluster
    #[arg(long, value_name = "FILE", requires = "connection")]
    engine_connection: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterOptions,
}

fn main() -> ExitCode {
    engineroom::init_with(tasks());
    run(|| {
        let options = Options::parse();
        let embedded = Embedded::start(&options)?;
        let served = serve(options.listen, Arc::clone(&embedded.client));
        let ended = embedded.shutdown();
        served.and(ended)
    })
}

fn tasks() -> Tasks {
    Tasks::new().register(SUM_OF_SQUARES, sum_of_squares)
}

/// An ordinary function.
fn sum_of_squares(n: u64) -> u128 {
    (1..=u128::from(n)).map(|i| i * i).sum()
}

/// What of engineroom runs inside this service.
struct Embedded {
    client: Arc<Client>,
    engines: EngineNode,
    /// The controller and the place of its profile, where no other cluster was named.
    controller: Option<(Controller, tempfile::TempDir)>,
}

impl Embedded {
    fn start(options: &Options) -> Result<Self, Failure> {
        let cluster = &options.cluster;
        let (controller, profile) = if cluster.is_remote() {
            (None, cluster.resolve_profile()?)
        } else {
            // The profile takes its name from the directory, and a name does not begin with a dot.
            let place = tempfile::Builder::new().prefix("embed-").tempdir().map_err(Failure::write(&env::temp_dir()))?;
            let profile = Profile::in_dir(place.path());
            let config = ControllerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ControllerConfig::default() };
            (Some((Controller::start(&profile, config).map_err(engineroom::Error::from)?, place)), profile)
        };
        let (client_file, engine_file) = match (&cluster.connection, &options.engine_connection) {
            (Some(client), Some(engine)) => (client.clone(), engine.clone()),
            (Some(_), None) => {
                let why = "--connection lets the client in; name with --engine-connection the file that lets the engines in";
                return Err(Failure::Usage(why.into()));
            }
            (None, _) => (profile.client_connection_file(), profile.engine_connection_file()),
        };

        let connection = ConnectionFile::load(engine_file).map_err(engineroom::Error::from)?;
        let mut config = EngineConfig::new(connection);
        config.engines = cluster.engines_or_cores();
        config.worker = WorkerKind::Thread;
        config.tasks = tasks();
        let engines = EngineNode::start(config).map_err(engineroom::Error::from)?;
        let client = Arc::new(Client::connect(client_file.as_path())?);
        say!("engines {:?} joined the controller at {}", engines.engine_ids(), engines.controller())?;
        Ok(Self { client, engines, controller })
    }

    /// Ends the parts in the order in which they depend on each other: client, engines, controller.
    fn shutdown(self) -> Result<(), Failure> {
        let closed = self.client.close();
        let engines = self.engines.shutdown(SHUTDOWN_WAIT);
        let controller = self.controller.map(|(controller, _place)| controller.shutdown(SHUTDOWN_WAIT));
        say!("engines: {engines}")?;
        if let Some(controller) = controller {
            say!("controller: {controller}")?;
        }
        Ok(closed?)
    }
}

/// Answers requests until Ctrl-C or SIGTERM.
fn serve(listen: SocketAddr, client: Arc<Client>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Work(format!("cannot serve HTTP on {listen}: {error}"));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        say!("try http://{}/sum-of-squares?n=10", listener.local_addr().map_err(failed)?)?;
        let service = Router::new().route("/sum-of-squares", get(answer)).with_state(client);
        axum::serve(listener, service).with_graceful_shutdown(asked_to_end()).await.map_err(failed)
    })
}

async fn answer(State(client): State<Arc<Client>>, Query(query): Query<HashMap<String, String>>) -> (StatusCode, String) {
    let n = match parse_n(query.get("n").map(String::as_str)) {
        Ok(n) => n,
        Err(problem) => return (StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let task = client.load_balanced_view().label("http").apply_named(SUM_OF_SQUARES, n);
    match timeout(ANSWER_WAIT, task).await {
        Ok(Ok(sum)) => (StatusCode::OK, format!("{sum}\n")),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, format!("no result within {} s\n", ANSWER_WAIT.as_secs())),
    }
}

fn parse_n(n: Option<&str>) -> Result<u64, String> {
    let wrong = || format!("n must be a whole number from 0 to {N_MAX}, as in /sum-of-squares?n=10");
    n.and_then(|n| n.parse().ok()).filter(|n| *n <= N_MAX).ok_or_else(wrong)
}

async fn asked_to_end() {
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await, // Ctrl-C is left
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        for (n, sum) in [(0, 0), (1, 1), (10, 385), (1_000_000, 333_333_833_333_500_000)] {
            assert_eq!(sum_of_squares(n), sum, "n = {n}");
        }
    }

    #[test]
    fn a_bad_n_is_told_what_a_good_one_is() {
        assert_eq!(parse_n(Some("10")), Ok(10));
        for bad in [None, Some(""), Some("-1"), Some("ten"), Some("1e3"), Some("100000001")] {
            assert!(parse_n(bad).is_err_and(|text| text.contains("whole number")), "{bad:?}");
        }
    }
}
