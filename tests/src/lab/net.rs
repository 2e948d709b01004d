//! Network namespaces for the lab, by iproute2; removed when dropped.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

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

    /// The full name of a namespace.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A hand on both wires of a host.
    ///
    /// # Errors
    /// When `ip` cannot be started.
    pub fn wires(&self, name: &str) -> Result<Wires> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name(name), "-force", "-batch", "-"]);
        let mut process = ip.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("ip (iproute2)")?;
        let words = process.stdin.take().context("its input")?;
        let said = BufReader::new(process.stdout.take().context("its output")?);
        Ok(Wires { process, words, said })
    }

    /// Loads rules of nftables in a namespace.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn rules(&self, name: &str, rules: &str) -> Result<()> {
        let mut nft = self.command(name, Path::new("nft"));
        let mut process = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        process.stdin.take().context("its input")?.write_all(rules.as_bytes())?;
        let said = process.wait_with_output()?;
        ensure!(said.status.success(), "nft: {}", String::from_utf8_lossy(&said.stderr).trim());
        Ok(())
    }

    /// Lets the host's packets for publishers past the hold, which sees none of them: they carry another port while they
    /// pass its rule. So nothing waits, and both nodes believe that everything does.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn past_the_hold(&self, name: &str) -> Result<()> {
        self.rules(
            name,
            &format!(
                "table ip lab_past {{\n\
                 chain before {{ type filter hook output priority 299; ip saddr {VIP} tcp sport 1935 tcp sport set 9; }}\n\
                 chain behind {{ type filter hook postrouting priority 0; ip saddr {VIP} tcp sport 9 tcp sport set 1935; }}\n\
                 }}\n"
            ),
        )
    }

    /// Loses so many of a hundred frames between publishers and the address, both ways, on the switch.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn lose(&self, percent: u32) -> Result<()> {
        let chain = |port: &str, what: &str| {
            format!(
                "chain {port} {{ type filter hook ingress device \"{port}\" priority 0;\n\
                 ip protocol tcp tcp {what} 1935 numgen random mod 100 < {percent} drop; }}\n"
            )
        };
        let chains = [chain("c", "dport"), chain("a", "sport"), chain("b", "sport")].concat();
        self.rules("s", &format!("table netdev lab_loss {{}}\ndelete table netdev lab_loss\ntable netdev lab_loss {{\n{chains}}}\n"))
    }

    /// Makes a host deaf to the other one on both wires: what it says itself still arrives there.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn deafen(&self, name: &str, to: &str) -> Result<()> {
        let last = if to == "a" { 1 } else { 2 };
        let chain = |device: &str, network: u8| {
            format!(
                "chain {device} {{ type filter hook ingress device \"{device}\" priority 0; \
                 ip saddr 10.{network}.0.{last} drop; }}\n"
            )
        };
        self.rules(name, &format!("table netdev lab_deaf {{\n{}{}}}\n", chain("eth0", 77), chain("eth1", 78)))
    }

    /// Ends its deafness.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn hear(&self, name: &str) -> Result<()> {
        self.rules(name, "delete table netdev lab_deaf\n")
    }

    /// A command that runs in a namespace.
    pub fn command(&self, name: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{name}", self.prefix)]).arg(program);
        command
    }

    /// How many processes of this program run in a namespace; zombies do not count.
    ///
    /// # Errors
    /// When `ip` does not say.
    pub fn running(&self, name: &str, program: &str) -> Result<usize> {
        let said = Command::new("ip").args(["netns", "pids", &self.name(name)]).output()?;
        ensure!(said.status.success(), "ip: {}", String::from_utf8_lossy(&said.stderr).trim());
        let ids = String::from_utf8_lossy(&said.stdout).into_owned();
        let comm = |id: &str| std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        Ok(ids.split_whitespace().filter(|id| comm(id).trim() == program).count())
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

/// Both wires of a host, and an `ip` that waits for the word: nothing is started at the moment of the strike.
pub struct Wires {
    process: Child,
    words: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Wires {
    /// Cuts both. Gives the moment before the word, and the moment when both were surely down.
    ///
    /// # Errors
    /// When `ip` has ended.
    pub fn cut(&mut self) -> Result<(Instant, Instant)> {
        let at = Instant::now();
        // Its answer to the last line says that the first two are done.
        self.words.write_all(b"link set eth0 down\nlink set eth1 down\nlink show dev eth1\n")?;
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        ensure!(line.contains("eth1"), "ip says {line:?}");
        Ok((at, Instant::now()))
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
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
