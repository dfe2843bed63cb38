//! A server on a free loopback port, and a client that sends exactly what it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use dalsegno_core::InstanceId;
use dalsegno_core::limits::Limits;
use dalsegno_engine::TaskHub;
use dalsegno_engine::hub::{HubOptions, LimiterDefinition};
use dalsegno_host::server::Access;
use dalsegno_host::{AppRoutes, RemoteHub, Server};
use dalsegno_store_memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::app::App;
use crate::described;

pub(crate) const P: &str = "/runtime/webhooks/durabletask";

pub(crate) struct World {
    pub(crate) hub: TaskHub,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) address: SocketAddr,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pair = |line: &'_ str| {
            line.split_once(": ")
                .map(|(name, _)| name.eq_ignore_ascii_case(name))
                .is_some()
        };
        self.head
            .lines()
            .filter(|line| pair(line))
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn world() -> World {
    world_with(Limits::default(), |server| server).await
}

pub(crate) async fn world_with_keys(access: Access) -> World {
    world_with(Limits::default(), |server| {
        server.access(access).routes("api", AppRoutes::new())
    })
    .await
}

pub(crate) async fn world_with(limits: Limits, set: impl FnOnce(Server) -> Server) -> World {
    world_on(MemoryStore::new(2), limits, set).await
}

pub(crate) async fn world_on(
    store: MemoryStore,
    limits: Limits,
    set: impl FnOnce(Server) -> Server,
) -> World {
    let rule = LimiterDefinition {
        rate: None,
        burst: None,
        concurrency: Some(1),
    };
    let options = HubOptions {
        limits,
        threads: 1,
        limiters: vec![("github".into(), rule)],
        ..HubOptions::default()
    };
    let store = Arc::new(store);
    let hub = TaskHub::open(store.clone(), Arc::new(App), options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = set(Server::new(hub.clone()));
    tokio::spawn(server.serve(listener, std::future::pending()));
    World { hub, store, address }
}

impl World {
    pub(crate) fn remote(&self) -> RemoteHub {
        RemoteHub::new(&format!("http://{}", self.address)).unwrap()
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Reply {
        self.send(
            "POST",
            path,
            &[("Content-Type", "application/json")],
            body.as_bytes(),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], b"").await
    }

    /// Sends a request as it stands; what is answered has to be what the OpenAPI document tells of. A `Host` among the headers replaces ours.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let reply = reply(answer);
        described::check(method, path, &reply);
        reply
    }

    /// Sends a request without a body and reads the head of the answer, and its body if that has a
    /// length: streams do not end by themselves.
    pub(crate) async fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n",
            self.address
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let length = reply(answer.clone())
            .header("content-length")
            .map(|length| length.parse().unwrap());
        if method != "HEAD" {
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).await.unwrap();
            answer.extend(body);
        }
        reply(answer)
    }

    /// Sends a whole body before it looks at the answer, as simple clients do.
    pub(crate) async fn send_all(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Reply> {
        let mut stream = TcpStream::connect(self.address).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(reply(answer))
    }

    /// Starts an orchestration under an id and returns it.
    pub(crate) async fn started(&self, name: &str, id: &str, input: &str) -> InstanceId {
        let reply = self.post(&format!("{P}/orchestrators/{name}/{id}"), input).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        InstanceId::parse(id).unwrap()
    }

    /// The same, waiting until it is finished.
    pub(crate) async fn finished(&self, name: &str, id: &str, input: &str) -> InstanceId {
        let id = self.started(name, id, input).await;
        self.hub.wait_for_completion(&id, None).await.unwrap();
        id
    }

    /// The same, waiting until it has had its first turn.
    pub(crate) async fn running(&self, name: &str, id: &str, input: &str) -> InstanceId {
        let id = self.started(name, id, input).await;
        self.hub.wait_for_start(&id, None).await.unwrap();
        id
    }
}

fn reply(answer: Vec<u8>) -> Reply {
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Reply {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Replaces every time by `T`, so that the rest can be compared byte for byte.
pub(crate) fn mask_times(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"20") {
        let end = rest[at + 1..].find('"').map_or(rest.len(), |end| at + 1 + end);
        let inner = &rest[at + 1..end];
        masked.push_str(&rest[..=at]);
        masked.push_str(if inner.ends_with('Z') && inner.contains('T') {
            "T"
        } else {
            inner
        });
        rest = &rest[end..];
    }
    masked + rest
}
