//! A service of somebody else: an identity provider or an operator's webhook, with answers and faults on demand.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// What it answers with from now on.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub body: String,
    pub location: Option<String>,
    pub delay: Duration,
}

pub struct Outside {
    pub address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Outside {
    pub async fn start(body: impl Into<String>) -> Outside {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let says = Says { status: 200, body: body.into(), location: None, delay: Duration::ZERO };
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::<Mutex<Vec<Asked>>>::default());
        let (answers, list) = (says.clone(), asked.clone());
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (answers, list) = (answers.clone(), list.clone());
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(&answers, &list, request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Outside { address, says, asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    says: &Mutex<Says>,
    asked: &Mutex<Vec<Asked>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = head.headers.iter();
    asked.lock().unwrap().push(Asked {
        line: format!("{} {}", head.method, head.uri),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let says = says.lock().unwrap().clone();
    tokio::time::sleep(says.delay).await;
    let mut response = Response::builder().status(says.status);
    if let Some(location) = says.location {
        response = response.header("location", location);
    }
    Ok(response.body(Full::from(says.body)).unwrap())
}
