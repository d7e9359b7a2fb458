//! Real cards, real DHCP servers: see below.
