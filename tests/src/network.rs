//! Networks that can be cut: hosts that are network namespaces, around a switch that is one too.

use std::{
    fs,
    path::Path,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{Lab, system::process_exists};

/// How the names of all namespaces of tests begin; the process that made it and a number follow.
const PREFIX: &str = "engineroom-";

/// The switch: its namespace, and the bridge in it.
const SWITCH: &str = "switch";

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// A network of hosts, each with one address and one cable to a switch. Gone when dropped.
pub struct Network {
    prefix: String,
    namespaces: Vec<String>,
}

impl Network {
    /// A switch without hosts.
    ///
    /// # Errors
    /// The reason, where this system lets the test make none.
    pub fn new() -> Result<Self, String> {
        sweep();
        let prefix = format!("{PREFIX}{}-{}-", process::id(), NETWORKS.fetch_add(1, Relaxed));
        let mut network = Self { prefix, namespaces: Vec::new() };
        network.add_namespace(SWITCH)?;
        network.within(SWITCH, "ip link add br0 type bridge")?;
        network.within(SWITCH, "ip link set br0 up")?;
        Ok(network)
    }

    /// Connects a host, whose name is short and whose address is in 10.77.0.0/24.
    ///
    /// # Errors
    /// The reason, where this system does not permit it.
    pub fn connect(&mut self, host: &str, address: &str) -> Result<(), String> {
        self.add_namespace(host)?;
        let [switch, namespace] = [SWITCH, host].map(|name| self.namespace(name));
        run(&format!("ip link add {host} netns {switch} type veth peer name eth0 netns {namespace}"))?;
        self.within(SWITCH, &format!("ip link set {host} master br0 up"))?;
        self.within(host, &format!("ip addr add {address}/24 dev eth0"))?;
        self.within(host, "ip link set eth0 up")
    }

    /// Takes the other end of a host's cable out of the switch. The host sees nothing but silence.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn cut(&self, host: &str) {
        self.within(SWITCH, &format!("ip link set {host} nomaster")).expect("a host");
    }

    /// Puts the cable back.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn mend(&self, host: &str) {
        self.within(SWITCH, &format!("ip link set {host} master br0")).expect("a host");
    }

    /// Gives a host another address. The old one is gone.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn move_to(&self, host: &str, address: &str) {
        self.within(host, "ip addr flush dev eth0").expect("a host");
        self.within(host, &format!("ip addr add {address}/24 dev eth0")).expect("an address");
    }

    /// Delays what a host sends and loses a part of it, and likewise what is sent to it.
    ///
    /// # Errors
    /// The reason, where the system cannot do so.
    pub fn disturb(&self, host: &str, delay_ms: u32, loss_percent: u32) -> Result<(), String> {
        let netem = format!("root netem delay {delay_ms}ms loss {loss_percent}%");
        self.within(host, &format!("tc qdisc add dev eth0 {netem}"))?;
        self.within(SWITCH, &format!("tc qdisc add dev {host} {netem}"))
    }

    /// [`Lab::command`], run on a host.
    pub fn command(&self, lab: &Lab, host: &str, program: &str) -> Command {
        let inner = lab.command(program);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(inner.get_program());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(inner.get_current_dir().unwrap_or(Path::new("/")));
        command
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn add_namespace(&mut self, name: &str) -> Result<(), String> {
        let namespace = self.namespace(name);
        run(&format!("ip netns add {namespace}"))?;
        self.namespaces.push(namespace);
        self.within(name, "ip link set lo up")
    }

    fn within(&self, name: &str, command: &str) -> Result<(), String> {
        run(&format!("ip netns exec {} {command}", self.namespace(name)))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.namespaces.iter().for_each(|namespace| delete(namespace));
    }
}

/// Deletes what was left by tests that were killed.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| !process_exists(pid)) {
            delete(&name);
        }
    }
}

fn delete(namespace: &str) {
    // It may have gone, and nothing depends on it.
    let _ = run(&format!("ip netns del {namespace}"));
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.map_err(|error| format!("`{command}` cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("`{command}` fails: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
