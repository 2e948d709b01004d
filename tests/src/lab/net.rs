//! Network namespaces for the lab, by iproute2; removed when dropped.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The address that moves.
pub const VIP: &str = "10.77.0.100";

/// The namespaces of one lab. This program runs in the client's.
pub struct Net {
    prefix: String,
}

impl Net {
    /// Makes switch, both hosts and the relays' host; joins the client's namespace, in which this program runs, to them.
    ///
    /// # Errors
    /// Missing rights, or leftovers of the same prefix.
    pub fn build(prefix: &str) -> Result<Net> {
        let net = Net { prefix: prefix.to_owned() };
        for name in ["s", "a", "b", "r"] {
            ip(&format!("netns add {prefix}{name}"))?;
        }
        net.inside("s", "link add br0 type bridge")?;
        net.inside("s", "link set br0 up")?;
        for (name, address) in [("a", "1"), ("b", "2"), ("r", "11")] {
            ip(&format!("link add eth0 netns {prefix}{name} type veth peer name {name} netns {prefix}s"))?;
            net.port(name)?;
            net.inside(name, &format!("address add 10.77.0.{address}/24 dev eth0"))?;
            net.inside(name, "link set eth0 up")?;
            net.inside(name, "link set lo up")?;
        }
        ip(&format!("link add eth0 type veth peer name c netns {prefix}s"))?;
        net.port("c")?;
        for words in ["address add 10.77.0.9/24 dev eth0", "link set eth0 up", "link set lo up"] {
            ip(words)?;
        }
        ip(&format!("link add eth1 netns {prefix}a type veth peer name eth1 netns {prefix}b"))?;
        for (name, address) in [("a", "1"), ("b", "2")] {
            net.inside(name, &format!("address add 10.78.0.{address}/24 dev eth1"))?;
            net.inside(name, "link set eth1 up")?;
        }
        Ok(net)
    }

    fn port(&self, name: &str) -> Result<()> {
        self.inside("s", &format!("link set dev {name} master br0"))?;
        self.inside("s", &format!("link set dev {name} up"))
    }

    /// Runs `ip` in a namespace.
    ///
    /// # Errors
    /// With what it said.
    pub fn inside(&self, name: &str, words: &str) -> Result<()> {
        ip(&format!("-n {}{name} {words}", self.prefix))
    }

    /// Delays everything that leaves by this interface.
    ///
    /// # Errors
    /// A kernel without netem.
    pub fn delay(&self, name: &str, interface: &str, time: &str) -> Result<()> {
        let mut tc = self.command(name, std::path::Path::new("tc"));
        let said = tc.args(["qdisc", "add", "dev", interface, "root", "netem", "delay", time]).output()?;
        ensure!(said.status.success(), "tc: {}", String::from_utf8_lossy(&said.stderr).trim());
        Ok(())
    }

    /// A command that runs in a namespace.
    pub fn command(&self, name: &str, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{name}", self.prefix)]).arg(program);
        command
    }

    /// Whether a namespace has the moving address now.
    ///
    /// # Errors
    /// When `ip` does not say.
    pub fn has_vip(&self, name: &str) -> Result<bool> {
        let said =
            Command::new("ip").args(["-n", &format!("{}{name}", self.prefix), "-o", "address"]).output()?;
        Ok(String::from_utf8_lossy(&said.stdout).contains(&format!("{VIP}/32")))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // Ours stays until the kernel has taken the switch's namespace apart, and the next scenario makes it again.
        if let Err(error) = ip("link delete eth0") {
            eprintln!("takeover-lab: {error:#}");
        }
        for name in ["a", "b", "r", "s"] {
            if let Err(error) = ip(&format!("netns delete {}{name}", self.prefix)) {
                eprintln!("takeover-lab: {error:#}");
            }
        }
    }
}

fn ip(words: &str) -> Result<()> {
    let said = Command::new("ip").args(words.split_whitespace()).output().context("ip (iproute2)")?;
    ensure!(said.status.success(), "ip {words}: {}", String::from_utf8_lossy(&said.stderr).trim());
    Ok(())
}
