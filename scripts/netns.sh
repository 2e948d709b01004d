#!/usr/bin/env bash
# Two hosts on this machine: network namespaces on a bridge, for whoever sources this file.
#
#   net_up      makes them and sets: net_name (prefix), net_a, net_b (namespaces), net_host, net_ip_a, net_ip_b, net_vip
#   net_down    removes what net_up made; safe to call twice, and when nothing was made
#   lab_up      makes the client's namespace of the takeover's lab and sets lab_prefix; the lab itself makes the others
#   lab_down    ends what runs in the lab's namespaces and removes them
#
# As root, with ip (iproute2). Addresses are of 10.213.N.0/24 with the first N that is free, so that several may run at once. Nothing is
# routed: only this machine and the two hosts see each other.

net_name=''

net_up() {
    local n side
    for n in {1..200}; do
        if ip link add "releve$n" type bridge 2>/dev/null; then
            net_name=releve$n
            break
        fi
    done
    [[ -n $net_name ]] || return 1
    export net_host=10.213.$n.1 net_ip_a=10.213.$n.2 net_ip_b=10.213.$n.3 net_vip=10.213.$n.10
    export net_a=$net_name-a net_b=$net_name-b
    ip address add "$net_host/24" dev "$net_name" && ip link set "$net_name" up || return 1
    for side in a b; do
        local space=$net_name-$side address=net_ip_$side
        ip netns add "$space" &&
            ip link add "$net_name$side" type veth peer name eth0 netns "$space" &&
            ip link set "$net_name$side" master "$net_name" up &&
            ip -n "$space" address add "${!address}/24" dev eth0 &&
            ip -n "$space" link set eth0 up && ip -n "$space" link set lo up || return 1
    done
}

net_down() {
    [[ -n $net_name ]] || return 0
    local side
    for side in a b; do
        ip netns delete "$net_name-$side" 2>/dev/null || true
        ip link delete "$net_name$side" 2>/dev/null || true
    done
    ip link delete "$net_name" 2>/dev/null || true
    net_name=''
}

lab_prefix=''

lab_up() {
    lab_prefix=rlv$$
    ip netns add "${lab_prefix}c" 2>/dev/null
}

lab_down() {
    [[ -n $lab_prefix ]] || return 0
    local name pid
    for name in c a b r s; do
        # Whatever still runs in our own namespaces was started by this run.
        for pid in $(ip netns pids "$lab_prefix$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
        ip netns delete "$lab_prefix$name" 2>/dev/null || true
    done
    lab_prefix=''
}
